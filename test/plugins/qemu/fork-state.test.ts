/** What killed calls leave behind, and what isn't there: without a guest. */
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { canGiveAccounts, macOf, userIdOf } from '../../../plugins/qemu/fork/child-account.ts'
import { openReadOnlyLibrary } from '../../../plugins/qemu/fork/open-read-only.ts'
import { oneAtATime } from '../../../plugins/qemu/fork/one-at-a-time.ts'
import type { ForkCapability } from '../../../src/plugin-sdk/index.ts'
import { connect, openCloud, type TestCloud } from './support/cloud.ts'

const operation = () => ({ operationId: randomUUID() })
const parentId = 'parent'
const limits = { memoryBytes: 2 ** 28, cpuShare: 1, diskBytes: 2 ** 20, network: 'NONE' as const, maxLifetimeMs: 60_000 }
const hardware = { accelerator: 'tcg', cpuModel: 'qemu64', cpuCount: 1, memoryKiB: 1024 }
const saved = { savedAt: '2026-01-02T03:04:05.000Z', saveMs: 10, ramSha256: 'a'.repeat(64), diskSha256: 'b'.repeat(64) }

let cloud: TestCloud
let fork: ForkCapability
beforeEach(async () => {
  cloud = await openCloud()
  if (!cloud.connection.fork) throw new Error('The plugin can not fork here.')
  fork = cloud.connection.fork
})
afterEach(() => cloud.close())

const inParents = (...path: string[]) => join(cloud.stateDirectory, 'parents', ...path)
const writeParent = async (changes: object) => {
  await mkdir(inParents(parentId, 'children'), { recursive: true })
  const record = { version: 1, parentId, hardware, diskBytes: 4096, state: 'SAVED', stoppedAt: null, saved, ...changes }
  await writeFile(inParents(parentId, 'parent.json'), JSON.stringify(record))
  await writeFile(inParents(parentId, 'ram'), 'memory')
}

test('a parent that is not saved is no parent yet: neither described nor forked from', async () => {
  await writeParent({ state: 'BOOTING', saved: null })
  expect(await fork.describeParents({})).toEqual([])
  for (const call of [
    () => fork.forkChild({ ...operation(), parentId, childId: 'child', limits, paused: false }),
    () => fork.capacity({ parentId }),
    () => fork.capacity({ parentId: '../parents/parent' }),
  ])
    await expect(call()).rejects.toMatchObject({ code: 'NOT_FOUND', retryable: false })
  await expect(fork.saveParent({ ...operation(), parentId })).rejects.toMatchObject({
    code: 'CONFLICT',
    remedy: expect.stringMatching(/again/),
  })
  await expect(fork.saveParent({ ...operation(), parentId: 'unknown' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await fork.deleteParent({ ...operation(), parentId })
  expect(await readdir(inParents())).toEqual([])
})

test('a saved parent is described, and does not boot again', async () => {
  await writeParent({})
  const [described] = await fork.describeParents({})
  expect(described).toMatchObject({ parentId, ...saved, memoryBytes: 1024 * 1024, diskBytes: 4096, childCount: 0 })
  expect(await fork.saveParent({ ...operation(), parentId })).toEqual(described)
  const image = { kernelPath: '/dev/null', initrdPath: '/dev/null', commandLine: '', diskPath: '/dev/null' }
  const again = fork.bootParent({ ...operation(), parentId, image, memoryBytes: 2 ** 27, cpuCount: 1 })
  await expect(again).rejects.toMatchObject({ code: 'CONFLICT' })
})

test('a file that is missing is named, and nothing is left', async () => {
  const image = { kernelPath: '/nowhere/kernel', initrdPath: '/dev/null', commandLine: '', diskPath: '/dev/null' }
  const boot = fork.bootParent({ ...operation(), parentId, image, memoryBytes: 2 ** 27, cpuCount: 1 })
  await expect(boot).rejects.toMatchObject({
    code: 'NOT_FOUND',
    message: expect.stringContaining('/nowhere/kernel'),
    path: ['image', 'kernelPath'],
  })
  await fork.deleteParent({ ...operation(), parentId })
  expect(await readdir(inParents())).toEqual([])
})

test('children that were half made are listed as ended, keep their parent, and are deleted', async () => {
  await writeParent({})
  await mkdir(inParents(parentId, 'children', 'empty'))
  await mkdir(inParents(parentId, 'children', 'half', 'run'), { recursive: true })
  await writeFile(
    inParents(parentId, 'children', 'half', 'child.json'),
    JSON.stringify({ childId: 'half', parentId, limits, paused: true, startedAt: saved.savedAt, forked: false, process: null }),
  )
  const listed = await fork.listChildren({})
  expect(listed.toSorted((left, right) => left.childId.localeCompare(right.childId))).toMatchObject([
    { childId: 'empty', parentId, state: 'ENDED', memoryBytes: 0 },
    { childId: 'half', parentId, state: 'ENDED', startedAt: saved.savedAt },
  ])
  await expect(fork.resumeChild({ ...operation(), childId: 'half' })).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(fork.deleteParent({ ...operation(), parentId })).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining('2 children'),
  })
  for (const childId of ['empty', 'half', 'half', 'never']) await fork.deleteChild({ ...operation(), childId })
  expect(await fork.listChildren({})).toEqual([])
  await fork.deleteParent({ ...operation(), parentId })
})

test('limits that mean nothing are refused by name', async () => {
  await writeParent({})
  for (const [name, value] of [
    ['memoryBytes', 0],
    ['cpuShare', -1],
    ['diskBytes', Number.NaN],
    ['maxLifetimeMs', Infinity],
  ] as const) {
    const call = fork.forkChild({ ...operation(), parentId, childId: 'child', limits: { ...limits, [name]: value }, paused: false })
    await expect(call).rejects.toMatchObject({ code: 'UNSUPPORTED', path: ['limits', name] })
  }
  expect(await fork.listChildren({})).toEqual([])
})

test('a removal that was interrupted is finished when the plugin starts', async () => {
  await mkdir(inParents('.removing-gone', 'children', 'child'), { recursive: true })
  await connect(cloud.stateDirectory, {}, true)
  expect(await readdir(inParents())).toEqual([])
})

test('how many children fit follows from what a child may take, and says what bounds it', async () => {
  await writeParent({})
  const { children, freeMemoryBytes, perChildBytes, reason } = await fork.capacity({ parentId })
  expect(perChildBytes).toBeGreaterThan(hardware.memoryKiB * 1024)
  expect(children).toBe(Math.floor(freeMemoryBytes / perChildBytes))
  expect(reason).toMatch(/fits?: .* left/)
})

test('an account and an address follow from the id, and siblings have different ones', async () => {
  const ids = Array.from({ length: 200 }, (_, index) => `child-${index}`)
  expect(new Set(ids.map(userIdOf)).size).toBe(200)
  expect(new Set(ids.map(macOf)).size).toBe(200)
  for (const id of ids) {
    expect(userIdOf(id)).toBeGreaterThan(0x7000_0000)
    expect(userIdOf(id)).toBeLessThan(0x7100_0000)
    expect(macOf(id)).toMatch(/^52:54:00(:[0-9a-f]{2}){3}$/)
  }
  const narrow = join(cloud.stateDirectory, 'uid-map')
  await writeFile(narrow, '         0     100000      65536\n')
  expect(await canGiveAccounts(narrow)).toBe(false)
})

test('the C library takes the library that opens for reading what may only be read', async () => {
  const path = join(cloud.stateDirectory, 'open-read-only.so')
  await writeFile(path, openReadOnlyLibrary())
  const { stderr } = await promisify(execFile)('/bin/true', [], { env: { LD_PRELOAD: path, LD_BIND_NOW: '1' } })
  expect(stderr).toBe('')
})

test('calls for one id wait for each other, whatever becomes of them', async () => {
  const serially = oneAtATime()
  const order: string[] = []
  const step = (name: string, ms: number) => async () => {
    await new Promise((resolve) => setTimeout(resolve, ms))
    order.push(name)
    if (name === 'fails') throw new Error(name)
  }
  await Promise.allSettled([serially('a', step('fails', 20)), serially('a', step('second', 0)), serially('b', step('other', 0))])
  expect(order).toEqual(['other', 'fails', 'second'])
})
