/** A parent VM's workflow alone, driven by hand, at a cloud whose guests are scripted. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Database } from '../../src/database/client.ts'
import { parentVmCopies, parentVms } from '../../src/database/tables/parent-vm.ts'
import { ProviderError, type ForkCapability, type ProviderConnection, type SavedParent } from '../../src/plugin-sdk/index.ts'
import { createParentVmRunner, type ParentVmRunner } from '../../src/workflows/parent-vm-runner.ts'
import { parentVmRunKey } from '../../src/workflows/parent-vm-workflow.ts'
import { bootingCloud, type BootingCloud } from './support/booting-cloud.ts'
import { storeMachines, temporaryDatabase } from './support/group-stage.ts'
import { storeParent } from './support/store-parent.ts'

let stage: Awaited<ReturnType<typeof temporaryDatabase>>
let database: Database
let runners: ParentVmRunner[]
let directory: string
/** What the guest answers to WARM_UP; null: nothing. */
let warmth: object | null
let booted: Map<string, { server: Server; sockets: Set<Socket> }>
let saved: Map<string, SavedParent>
let drained: string[]
/** A cloud that can't fork, where it is in reach. */
let west: BootingCloud | null

beforeEach(async () => {
  stage = await temporaryDatabase()
  database = stage.database
  await storeMachines(database, 1)
  runners = []
  directory = mkdtempSync(join(tmpdir(), 'portolan-parents-'))
  warmth = { type: 'READY', libraries: { lodash: '4.17.21' }, warmUpMs: 5 }
  booted = new Map()
  saved = new Map()
  drained = []
  west = null
})
afterEach(async () => {
  await Promise.all(runners.map((runner) => runner.close()))
  west?.close()
  for (const parentId of booted.keys()) end(parentId)
  rmSync(directory, { recursive: true, force: true })
  await stage.remove()
})

function end(parentId: string): void {
  const guest = booted.get(parentId)
  booted.delete(parentId)
  for (const socket of guest?.sockets ?? []) socket.destroy()
  guest?.server.close()
}

const absent = () => Promise.reject(new Error('not here'))
const fork: ForkCapability = {
  isolation: { unprivilegedUser: false, sandbox: false },
  networkIds: [],
  async bootParent({ parentId }) {
    const path = join(directory, `${parentId}.sock`)
    const sockets = new Set<Socket>()
    const server = createServer((socket) => {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.write(`${JSON.stringify({ type: 'HELLO', runtime: 'node', version: '18.20.4', libraries: {}, protocol: 1 })}\n`)
      createInterface({ input: socket })
        .on('line', () => warmth && socket.write(`${JSON.stringify(warmth)}\n`))
        .on('error', () => {})
    })
    booted.set(parentId, { server, sockets })
    await new Promise<void>((done) => server.listen(path, done))
    return { channel: { path } }
  },
  async saveParent({ parentId }) {
    end(parentId)
    const parent = {
      parentId,
      memoryBytes: 1,
      ramFileBytes: 2,
      diskBytes: 3,
      savedAt: '2026-11-23T00:00:00.000Z',
      saveMs: 4,
      ramSha256: 'ram',
      diskSha256: 'disk',
      childCount: 0,
    }
    saved.set(parentId, parent)
    return parent
  },
  describeParents: async () => [...saved.values()],
  hashParent: absent,
  async deleteParent({ parentId }) {
    if ((saved.get(parentId)?.childCount ?? 0) > 0)
      throw new ProviderError('CONFLICT', 'It has a child, so it stays.', { retryable: false, remedy: 'Delete its children first.' })
    end(parentId)
    saved.delete(parentId)
  },
  capacity: absent,
  forkChild: absent,
  resumeChild: absent,
  listChildren: async () => [],
  deleteChild: absent,
}

function newRunner(): ParentVmRunner {
  const runner = createParentVmRunner({
    database,
    connections: {
      connection: (cloudId: string) =>
        cloudId === 'east'
          ? Promise.resolve({ fork } as unknown as ProviderConnection)
          : west
            ? Promise.resolve(west.connection)
            : Promise.reject(new Error('out of reach')),
    } as unknown as Parameters<typeof createParentVmRunner>[0]['connections'],
    image: async () => ({ kernelPath: '/kernel', initrdPath: '/initrd', commandLine: '', diskPath: '/disk' }),
    childImage: async () => ({ kernelPath: '/kernel', initrdPath: '/initrd', commandLine: '', ramBytes: 1 }),
    pausedChildren: { drain: async ({ parentId }) => void (saved.has(parentId) && drained.push(parentId)) },
    timings: { sliceMs: 100 },
    log: () => {},
  })
  runners.push(runner)
  return runner
}

async function drive(runner: ParentVmRunner, id: string): Promise<void> {
  const key = parentVmRunKey({ id, run: (await read(id)).run })
  for (let next: string | null = 'BEGIN'; next !== null;) next = await runner.advance(key)
}

const register = () => storeParent(database, 'REGISTERED')
const read = async (id: string) => (await database.select().from(parentVms).where(eq(parentVms.id, id)))[0]!
const copiesOf = (id: string) => database.select().from(parentVmCopies).where(eq(parentVmCopies.parentVmId, id))
const change = (id: string, values: Partial<typeof parentVms.$inferInsert>) =>
  database.write((orm) => [orm.update(parentVms).set(values).where(eq(parentVms.id, id))])

test('a parent is built at the cloud that forks, and what it offers is what its guest said', async () => {
  const id = await register()
  await drive(newRunner(), id)
  expect(await read(id)).toMatchObject({
    state: 'READY',
    problem: null,
    offers: { runtime: 'NODE', runtimeVersion: '18.20.4', libraries: { lodash: '4.17.21' } },
  })
  expect(await copiesOf(id)).toMatchObject([{ cloudId: 'east', state: 'READY', ramSha256: 'ram', diskSha256: 'disk', saveMs: 4 }])
  expect(booted.size).toBe(0)
})

test('one whose warm-up fails is FAILED with what it said, and nothing of it is left', async () => {
  warmth = { type: 'WARM_UP_FAILED', message: 'Error: no such library (line 1)' }
  const id = await register()
  await drive(newRunner(), id)
  expect(await read(id)).toMatchObject({ state: 'FAILED', problem: 'east: The warm-up program failed: Error: no such library (line 1)' })
  expect([booted.size, saved.size]).toEqual([0, 0])
})

test('one that a restart of the control plane cut short is built anew', async () => {
  warmth = null
  const id = await register()
  const first = newRunner()
  const driven = drive(first, id).catch(() => {})
  await vi.waitFor(() => expect(booted.size).toBe(1))
  await first.close()
  await driven
  warmth = { type: 'READY', libraries: {}, warmUpMs: 5 }
  await drive(newRunner(), id)
  expect(await read(id)).toMatchObject({ state: 'READY' })
  expect([booted.size, saved.size]).toEqual([0, 1])
})

test('where nothing forks one is booted to see whether it gets warm, the copy says so, and nothing is kept of it', async () => {
  west = bootingCloud()
  const id = await register()
  await drive(newRunner(), id)
  const copies = await copiesOf(id)
  expect(copies.map(({ cloudId, state, childOrigin }) => [cloudId, state, childOrigin])).toEqual([
    ['east', 'READY', 'FORKED'],
    ['west', 'READY', 'BOOTED'],
  ])
  expect(west.asked).toHaveLength(1)
  expect(west.guests.size).toBe(0)
})

test('at a cloud that was connected later it is built by itself: what is there stays', async () => {
  const id = await register()
  const runner = newRunner()
  await drive(runner, id)
  const before = (await copiesOf(id))[0]
  west = bootingCloud()
  for (const run of [2, 3]) {
    await change(id, { state: 'REGISTERED', run })
    await drive(runner, id)
  }
  expect(await read(id)).toMatchObject({ state: 'READY', problem: null })
  expect((await copiesOf(id)).map(({ cloudId, state }) => [cloudId, state])).toEqual([
    ['east', 'READY'],
    ['west', 'READY'],
  ])
  expect((await copiesOf(id))[0]).toEqual(before)
  expect(west.asked).toHaveLength(1)
})

test('one that does not get warm there has no children there, and is READY where it did', async () => {
  west = bootingCloud()
  west.warmth = { type: 'WARM_UP_FAILED', message: 'no room' }
  const id = await register()
  await drive(newRunner(), id)
  expect(await read(id)).toMatchObject({ state: 'READY', problem: 'west: The warm-up program failed: no room' })
  expect((await copiesOf(id)).map(({ state }) => state)).toEqual(['READY', 'FAILED'])
  expect(west.guests.size).toBe(0)
})

test('what a killed control plane had booted there goes before it is booted again', async () => {
  west = bootingCloud()
  const id = await register()
  const runner = newRunner()
  await drive(runner, id)
  const { virtualMachine } = west.asked[0]!
  await west.connection.destination.instantiate(west.asked[0]!)
  await database.write((orm) => [orm.update(parentVmCopies).set({ state: 'BUILDING' }).where(eq(parentVmCopies.cloudId, 'west'))])
  await change(id, { state: 'REGISTERED', run: 2 })
  await drive(runner, id)
  expect(west.asked.map((request) => request.virtualMachine.uniqueId)).toEqual(Array.from({ length: 3 }, () => virtualMachine.uniqueId))
  expect(west.calls.filter((call) => /delete|instantiate/.test(call)).map((call) => call.split(' ')[0])).toEqual([
    'instantiate',
    'delete',
    'instantiate',
    'delete',
    'instantiate',
    'delete',
  ])
  expect(west.guests.size).toBe(0)
})

test('one that is deleted while it is built leaves nothing', async () => {
  warmth = null
  const id = await register()
  const runner = newRunner()
  const building = drive(runner, id).catch(() => {})
  await vi.waitFor(() => expect(booted.size).toBe(1))
  await change(id, { state: 'DELETING', run: 2 })
  await drive(runner, id)
  await building
  expect(await read(id)).toMatchObject({ state: 'DELETED' })
  expect([booted.size, saved.size]).toEqual([0, 0])
})

test('the next generation replaces the one before, whose copy stays as long as it has children', async () => {
  const id = await register()
  const runner = newRunner()
  await drive(runner, id)
  const before = saved.get(`${id}-1`)!
  saved.set(`${id}-1`, { ...before, childCount: 1 })
  await change(id, { state: 'REGISTERED', run: 2, generation: 2, offers: null })
  await drive(runner, id)
  expect((await copiesOf(id)).map(({ generation, state }) => [generation, state])).toEqual([
    [1, 'READY'],
    [2, 'READY'],
  ])
  saved.set(`${id}-1`, before)
  await change(id, { state: 'DELETING', run: 3 })
  await drive(runner, id)
  expect((await copiesOf(id)).map(({ state }) => state)).toEqual(['DELETED', 'DELETED'])
  expect(saved.size).toBe(0)
  // Of each copy, before it is deleted.
  expect(drained.toSorted()).toEqual([`${id}-1`, `${id}-1`, `${id}-2`])
})
