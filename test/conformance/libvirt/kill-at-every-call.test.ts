/**
 * Each operation is killed at its first call of virsh, sent again, killed at its second, and so on until it gets through. Every other time the virsh that was just
 * started goes on by itself, as an orphan, while the operation is sent again. In the end everything is there once.
 */
import { execFile, spawn } from 'node:child_process'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { artifacts } from '../../../setup/artifacts.ts'
import { startPrivateLibvirt, type PrivateLibvirt } from '../../../src/cli/private-site/start-private-libvirt.ts'

const oneCall = resolve(import.meta.dirname, 'one-call.ts')
const vmId = '0d1e2f30-1111-4222-8333-444455556666'
/** What connecting asks: killing there says nothing. */
const callsToConnect = 2
/** An ordinary run kills at every third call, beginning elsewhere each day; a full one at all. */
const stride = process.env['PORTOLAN_TEST_FULL'] ? 1 : 3
const offset = Number(/\d+$/.exec(process.env['PORTOLAN_TEST_SEED'] ?? '')?.[0] ?? 0) % stride
let directory: string
let site: PrivateLibvirt

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-kills-'))
  site = await startPrivateLibvirt({ directory: join(directory, 'site') })
  await writeFile(join(directory, 'empty-initrd'), Buffer.alloc(512))
  await writeFile(join(directory, 'virsh'), killingVirsh)
  await chmod(join(directory, 'virsh'), 0o755)
})
afterAll(async () => {
  await site?.stop()
  await rm(directory, { recursive: true, force: true })
})

/** Counts its calls, and kills who calls it the KILL_AT-th time. */
const killingVirsh = `#!/bin/sh
PATH=\${PATH#*:}
count=$(($(cat "$COUNT") + 1))
echo "$count" >"$COUNT"
if [ "$count" = "$KILL_AT" ]; then
  kill -KILL "$PPID"
  [ "$ORPHAN" = yes ] || exit 1
fi
exec virsh "$@"
`

const virtualMachine = {
  name: 'killed often',
  uniqueId: vmId,
  cpuCount: 1,
  memoryBytes: 131_072 * 1024,
  firmware: 'BIOS',
  disks: [{ index: 0, sizeBytes: 16 * 1024 * 1024 }],
  nics: [{ index: 0, mac: '52:54:00:11:22:33', networkId: 'default' }],
}
/** The kernel finds no system and halts: a guest that costs nothing. */
const landing = () => ({
  kernelPath: artifacts().landing.kernelPath,
  initrdPath: join(directory, 'empty-initrd'),
  commandLine: 'console=ttyS0 quiet panic=0',
  memoryBytes: virtualMachine.memoryBytes,
})
const volume = (role: string) => `killed-often-${vmId}-${role}`
const disk = volume('disk-0.raw')
const overlay = volume('disk-0.overlay.qcow2')
const landingVolumes = [volume('landing-initrd'), volume('landing-kernel')]
const isolated = ['default', `portolan-isolated-${vmId}`]

test('a destination is made, tested, sealed, booted, thrown back, booted again, exposed, fenced, released, flattened and deleted, killed at every call', async () => {
  await throughKills(['destination', 'instantiate'], { virtualMachine, landing: landing(), inject: [], inboundPorts: [] })
  expect(await state()).toEqual({ domains: ['killed often running'], volumes: [disk, ...landingVolumes], networks: ['default'] })

  await throughKills(['destination', 'testBoot', 'start'], { vmId, testId: 'test 1', inboundPorts: [] })
  const tested = await state()
  expect(tested).toMatchObject({
    domains: expect.arrayContaining(['killed often running', expect.stringMatching(/^killed often \(test \w+\) running$/)]),
  })
  expect(tested.volumes).toHaveLength(5)
  expect(tested.networks).toHaveLength(2)
  await throughKills(['destination', 'testBoot', 'remove'], { vmId, testId: 'test 1' })
  expect(await state()).toEqual({ domains: ['killed often running'], volumes: [disk, ...landingVolumes], networks: ['default'] })

  await throughKills(['destination', 'sealCopiedDisks'], { vmId })
  expect(await state()).toMatchObject({ volumes: [overlay, disk, ...landingVolumes] })

  await throughKills(['destination', 'bootFromCopiedDisk'], { vmId })
  expect(await state()).toEqual({ domains: ['killed often running'], volumes: [overlay, disk], networks: isolated })

  await throughKills(['destination', 'discardOverlay'], { vmId, inject: [] })
  expect(await state()).toEqual({ domains: ['killed often running'], volumes: [disk, ...landingVolumes], networks: ['default'] })

  await call(['destination', 'sealCopiedDisks'], { vmId, operationId: 'seal again' }, {})
  await call(['destination', 'bootFromCopiedDisk'], { vmId, operationId: 'boot again' }, {})
  await throughKills(['network', 'expose'], { vmId })
  expect(await state()).toMatchObject({ networks: ['default'] })

  for (const act of ['arm', 'fence', 'release']) await throughKills(['fencing', act], { vmId, fenceId: 'killed-often.1' })
  // Off by the fence, so that the merge has to start it by itself.
  await throughKills(['destination', 'flattenOverlay'], { vmId })
  expect(await state()).toEqual({ domains: ['killed often shut off'], volumes: [disk], networks: ['default'] })

  await throughKills(['destination', 'delete'], { vmId })
  expect(await state()).toEqual({ domains: [], volumes: [], networks: ['default'] })
}, 900_000)

test('a virtual machine that was left is adopted, given back, adopted again, and flattened once it is live, killed at every call', async () => {
  const image = join(directory, 'image')
  await writeFile(image, Buffer.alloc(16 * 1024 * 1024, 7))
  await call(['virtualMachines', 'create'], { virtualMachine, imagePath: image, inboundPorts: [], operationId: 'create' }, {})
  await call(['fencing', 'fence'], { vmId, fenceId: 'left.1', operationId: 'fence' }, {})
  const left = await definition()
  expect(left).toContain('left.1')
  const received = volume('disk-0.received.qcow2')
  const adoption = { vmId, fenceId: 'left.1', landing: landing(), inject: [], inboundPorts: [] }

  await throughKills(['destination', 'adopt', 'start'], adoption)
  expect(await state()).toEqual({
    domains: ['killed often running'],
    volumes: [disk, received, ...landingVolumes].toSorted(),
    networks: ['default'],
  })
  await throughKills(['destination', 'adopt', 'giveBack'], { vmId })
  expect(await state()).toEqual({ domains: ['killed often shut off'], volumes: [disk], networks: ['default'] })
  expect(await definition()).toBe(left)

  await call(['destination', 'adopt', 'start'], { ...adoption, operationId: 'adopt again' }, {})
  await call(['destination', 'sealCopiedDisks'], { vmId, operationId: 'seal' }, {})
  await call(['destination', 'bootFromCopiedDisk'], { vmId, operationId: 'boot' }, {})
  expect(await state()).toEqual({ domains: ['killed often running'], volumes: [overlay, disk, received].toSorted(), networks: isolated })
  await call(['network', 'expose'], { vmId, operationId: 'expose' }, {})
  await expect(call(['destination', 'adopt', 'giveBack'], { vmId, operationId: 'too late' }, {})).rejects.toThrow('exposed')
  await throughKills(['destination', 'flattenOverlay'], { vmId })
  expect(await state()).toEqual({ domains: ['killed often running'], volumes: [disk], networks: ['default'] })
  await call(['destination', 'delete'], { vmId, operationId: 'delete' }, {})
}, 900_000)

/** As libvirt stores it, but for what grows with each operation. */
async function definition(): Promise<string> {
  const { stdout } = await promisify(execFile)('virsh', ['--connect', site.uri, 'dumpxml', '--inactive', vmId])
  return stdout
    .split('\n')
    .filter((line) => !line.includes('<portolan:operation '))
    .join('\n')
    .replace(/ booted-by="[^"]*"| booted-by='[^']*'/, '')
}

async function throughKills(path: string[], request: Record<string, unknown>): Promise<void> {
  const operation = { ...request, operationId: `operation ${path.join('.')}` }
  for (let killAt = callsToConnect + 1 + offset; ; killAt += stride) {
    const killed = await call(path, operation, { KILL_AT: String(killAt), ORPHAN: (killAt / stride) % 2 < 1 ? 'yes' : 'no' })
    if (!killed) break
  }
  // And once more, whole: it was done already.
  const before = await state()
  await call(path, operation, {})
  expect(await state()).toEqual(before)
}

/** True when it was killed. Throws what it failed with otherwise. */
async function call(path: string[], request: Record<string, unknown>, kill: Record<string, string>): Promise<boolean> {
  const count = join(directory, 'count')
  await writeFile(count, '0')
  const child = spawn(process.execPath, [oneCall, JSON.stringify({ uri: site.uri, call: path, request })], {
    env: { ...process.env, PATH: `${directory}:${process.env['PATH']}`, COUNT: count, ...kill },
    // To a file, since an orphan would hold a pipe open.
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
  const [exitCode, signal] = await new Promise<[number | null, string | null]>((done) => child.on('exit', (...how) => done(how)))
  if (signal === 'SIGKILL') return true
  if (exitCode !== 0) throw new Error(`${path.join('.')} failed after ${await readFile(count, 'utf8')} calls: ${said}`)
  return false
}

async function state(): Promise<{ domains: string[]; volumes: string[]; networks: string[] }> {
  const virsh = async (...args: string[]) => {
    const { stdout } = await promisify(execFile)('virsh', ['--quiet', '--connect', site.uri, ...args], {
      env: { ...process.env, LC_ALL: 'C' },
    })
    return stdout
      .split('\n')
      .map((line) => line.trim())
      .filter(Boolean)
  }
  return {
    domains: (await virsh('list', '--all')).map((line) => line.replace(/^\S+\s+/, '').replaceAll(/\s{2,}/g, ' ')),
    volumes: (await virsh('vol-list', 'default'))
      .map((line) => line.split(/\s/)[0]!)
      .filter((name) => !name.endsWith('-console.log'))
      .toSorted(),
    networks: (await virsh('net-list', '--all', '--name')).toSorted(),
  }
}
