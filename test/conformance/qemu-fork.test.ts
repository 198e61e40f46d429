/** What a child of the qemu plugin can't do, tried from inside of it as root, with its siblings beside it; and what it costs. */
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readdir, readFile, rmdir, stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { findForkProcesses, proportionalBytes } from '../../plugins/qemu/fork/fork-processes.ts'
import type { ChildLimits, ForkCapability, GuestChannel, ParentImage, SavedParent } from '../../src/plugin-sdk/index.ts'
import { connect, openCloud, type TestCloud, until } from '../plugins/qemu/support/cloud.ts'
import { controlGroupsOfChildren } from '../support/control-groups.ts'
import { buildForkGuest, forkGuestMemoryBytes, warmUpForkGuest, withGuest } from '../support/fork-guest.ts'

const mebibyte = 1024 * 1024
const parentId = 'parent'
const run = promisify(execFile)
const operation = () => ({ operationId: randomUUID() })

let cloud: TestCloud
let fork: ForkCapability
let image: ParentImage
let saved: SavedParent
let coldBytes: number

const limits: ChildLimits = {
  memoryBytes: 256 * mebibyte,
  cpuShare: 1,
  diskBytes: 32 * mebibyte,
  network: 'NONE',
  maxLifetimeMs: 5 * 60_000,
}
const forkChild = async (childId: string, changes: Partial<ChildLimits> = {}, paused = false): Promise<GuestChannel> =>
  (await fork.forkChild({ ...operation(), parentId, childId, limits: { ...limits, ...changes }, paused })).channel
const inGuest = (channel: GuestChannel, command: string) => withGuest(channel, (guest) => guest.run(command))
const childNamed = async (childId: string) => (await fork.listChildren({})).find((child) => child.childId === childId)
const runDirectory = (childId: string) => join(cloud.stateDirectory, 'parents', parentId, 'children', childId, 'run')
const privileged = process.getuid?.() === 0

beforeAll(async () => {
  cloud = await openCloud()
  if (!cloud.connection.fork) throw new Error('The plugin can not fork here.')
  fork = cloud.connection.fork
  const guestDirectory = join(cloud.stateDirectory, 'guest')
  await mkdir(guestDirectory)
  image = await buildForkGuest(guestDirectory)
  const { channel } = await fork.bootParent({ ...operation(), parentId, image, memoryBytes: forkGuestMemoryBytes, cpuCount: 1 })
  await warmUpForkGuest(channel)
  const cold = (await findForkProcesses('qemu-system-x86_64')).get(join(cloud.stateDirectory, 'parents', parentId, 'run'))
  coldBytes = await proportionalBytes(cold?.qemu?.pid ?? 0)
  saved = await fork.saveParent({ ...operation(), parentId })
})
afterAll(async () => {
  await deleteChildren()
  await fork.deleteParent({ ...operation(), parentId })
  expect(await controlGroupsOfChildren(cloud.stateDirectory)).toEqual([])
  expect(await readdir(join(cloud.stateDirectory, 'parents'))).toEqual([])
  await cloud.close()
})
const deleteChildren = async () => {
  for (const { childId } of await fork.listChildren({})) await fork.deleteChild({ ...operation(), childId })
}

test.skipIf(!privileged)(
  'a child has an account of its own, without rights, in a sandbox, that may only read what its parent left',
  async () => {
    for (const childId of ['one', 'other']) await forkChild(childId)
    expect(fork.isolation).toMatchObject({ unprivilegedUser: true, sandbox: true })
    const accounts = await Promise.all(
      ['one', 'other'].map(async (childId) => {
        const status = await readFile(`/proc/${(await childNamed(childId))?.pid}/status`, 'utf8')
        expect(status).toMatch(/^Seccomp:\s+2$/m)
        expect(status).toMatch(/^NoNewPrivs:\s+1$/m)
        expect(status).toMatch(/^CapEff:\s+0+$/m)
        expect(status).toMatch(/^Groups:\s*$/m)
        const ids = /^Uid:\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\nGid:\s+(\d+)/m.exec(status)?.slice(1).map(Number) ?? []
        expect(new Set(ids.slice(0, 4)).size).toBe(1)
        return { userId: ids[0] ?? 0, groupId: ids[4] ?? 0 }
      }),
    )
    const [one, other] = accounts
    expect(one?.userId).toBeGreaterThan(0x7000_0000)
    expect(other?.userId).not.toBe(one?.userId)
    const as = (command: string) =>
      run('setpriv', [`--reuid=${one?.userId}`, `--regid=${one?.groupId}`, '--clear-groups', 'sh', '-c', command], {
        cwd: runDirectory('one'),
      })
    await as('head -c 1 ../../../ram >/dev/null && touch mine')
    for (const path of [
      '../../../ram',
      '../../../disk.raw',
      '../../../devices',
      '../child.json',
      '../../other/run/overlay.qcow2',
      '../new',
    ])
      await expect(as(`exec 3>>${path}`), path).rejects.toThrow(/Permission denied/)
    for (const path of ['../../../../../machines', '../../other/run', '../child.json.partial'])
      await expect(as(`ls ${path}`), path).rejects.toThrow()
    for (const name of ['ram', 'disk.raw', 'devices'])
      expect((await stat(join(cloud.stateDirectory, 'parents', parentId, name))).mode & 0o777).toBe(0o440)
    await deleteChildren()
  },
)

test('a save that was cut short once the devices were saved is completed by the next', async () => {
  const cutShort = { parentId: 'cut-short' }
  const directory = join(cloud.stateDirectory, 'parents', cutShort.parentId)
  try {
    await fork.bootParent({ ...operation(), ...cutShort, image, memoryBytes: forkGuestMemoryBytes, cpuCount: 1 })
    const inTheWay = join(directory, '.parent.json.partial')
    await mkdir(inTheWay)
    await expect(fork.saveParent({ ...operation(), ...cutShort })).rejects.toMatchObject({ message: expect.stringContaining('EISDIR') })
    expect((await stat(join(directory, 'run/devices'))).size).toBeGreaterThan(0)
    await rmdir(inTheWay)
    expect(await fork.saveParent({ ...operation(), ...cutShort })).toMatchObject({ ...cutShort, childCount: 0 })
  } finally {
    await fork.deleteParent({ ...operation(), ...cutShort })
  }
})

test('a child that takes more memory than it may ends alone', async () => {
  expect(fork.isolation.cgroup, 'control groups that this process may make').toBeDefined()
  const [greedy, sibling] = [await forkChild('greedy', { memoryBytes: 80 * mebibyte }), await forkChild('sibling')]
  const filling = inGuest(greedy, 'dd if=/dev/urandom of=/tmp/fill bs=1M count=90')
  await expect(filling).rejects.toThrow('the guest hung up')
  await until(async () => (await childNamed('greedy'))?.state === 'ENDED')
  expect(await inGuest(sibling, 'ping')).toEqual({ said: [], status: 'pong' })
  expect((await childNamed('sibling'))?.state).toBe('RUNNING')
  await deleteChildren()
})

test('a child that fills its disk gets an error, and its siblings write on', async () => {
  const [full, sibling] = [await forkChild('full', { diskBytes: 4 * mebibyte }), await forkChild('sibling')]
  const write = (count: number) => `dd if=/dev/urandom of=/dev/vda bs=1M count=${count} conv=fsync 2>&1 | tail -1`
  expect((await inGuest(full, write(24))).said.join()).toMatch(/I\/O error|Input\/output/)
  expect((await stat(join(runDirectory('full'), 'overlay.qcow2'))).size).toBeLessThanOrEqual(5 * mebibyte)
  expect(await inGuest(full, 'ping')).toEqual({ said: [], status: 'pong' })
  expect((await inGuest(sibling, write(24))).said.join()).not.toMatch(/rror/)
  expect((await inGuest(await forkChild('late'), 'head -c 17 /dev/vda; echo')).said.join()).toContain("the parent's disk")
  await deleteChildren()
})

test('a child that spins takes no more of the host than its share', async () => {
  expect(fork.isolation.cgroup, 'control groups that this process may make').toBeDefined()
  const channel = await forkChild('spinning', { cpuShare: 0.25 })
  await inGuest(channel, '(while :; do :; done) >/dev/null 2>&1 &')
  const cpuSeconds = async () => {
    const stat = await readFile(`/proc/${(await childNamed('spinning'))?.pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return (Number(fields[11]) + Number(fields[12])) / 100
  }
  const [before, startedAt] = [await cpuSeconds(), performance.now()]
  await delay(3_000)
  const share = ((await cpuSeconds()) - before) / ((performance.now() - startedAt) / 1000)
  expect(share).toBeGreaterThan(0.05)
  expect(share).toBeLessThan(0.35)
  await deleteChildren()
})

test('a child reaches nobody, unless it was given a network', async () => {
  const server = createServer((socket) => socket.end('hello from the host\n'))
  await once(server.listen({ host: '127.0.0.1', port: 0 }), 'listening')
  const { port } = server.address() as { port: number }
  const dial = `ifconfig eth0 10.0.2.15 up && nc -w 3 10.0.2.2 ${port} </dev/null`
  try {
    expect((await inGuest(await forkChild('alone'), dial)).said.join()).not.toContain('hello')
    expect((await inGuest(await forkChild('connected', { network: { networkId: 'user-mode' } }), dial)).said).toContain(
      'hello from the host',
    )
    await expect(forkChild('elsewhere', { network: { networkId: 'other' } })).rejects.toMatchObject({ code: 'NOT_FOUND' })
  } finally {
    server.close()
    await deleteChildren()
  }
})

test('a child ends when its time is over', async () => {
  const channel = await forkChild('short', { maxLifetimeMs: 1_500 })
  expect((await childNamed('short'))?.state).toBe('RUNNING')
  await expect(inGuest(channel, 'sleep 30')).rejects.toThrow('the guest hung up')
  await until(async () => (await childNamed('short'))?.state === 'ENDED')
  await deleteChildren()
})

test('twenty children share what they did not change, and another process of the plugin finds them', async () => {
  const names = Array.from({ length: 20 }, (_, index) => `sibling-${index}`)
  for (const name of names) expect(await inGuest(await forkChild(name), 'ping')).toEqual({ said: [], status: 'pong' })
  const other = (await connect(cloud.stateDirectory, {}, true)).fork
  const children = (await other?.listChildren({})) ?? []
  expect(children.map(({ childId }) => childId).toSorted()).toEqual(names.toSorted())
  const bytes = children.reduce((total, { memoryBytes }) => total + memoryBytes, 0)
  expect(bytes / 20).toBeLessThan(coldBytes * 0.4)
  expect((await fork.describeParents({}))[0]).toEqual({ ...saved, childCount: 20 })
  await deleteChildren()
})
