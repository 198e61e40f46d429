/** Children that stand ready, at a cloud that remembers them as a real one does. */
import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Database } from '../../src/database/client.ts'
import { jobChildren } from '../../src/database/tables/job.ts'
import { parentVmCopies, parentVms } from '../../src/database/tables/parent-vm.ts'
import { ProviderError, type ChildDescription, type ForkCapability, type ProviderConnection } from '../../src/plugin-sdk/index.ts'
import { usualChildLimits } from '../../src/workflows/child-limits.ts'
import { createPausedChildren, type PausedChildren } from '../../src/workflows/paused-children.ts'
import { storeMachines, temporaryDatabase } from './support/group-stage.ts'
import { storeParent } from './support/store-parent.ts'

let stage: Awaited<ReturnType<typeof temporaryDatabase>>
let database: Database
let there: Map<string, ChildDescription>
let most: number
let keepers: PausedChildren[]

beforeEach(async () => {
  stage = await temporaryDatabase()
  database = stage.database
  await storeMachines(database, 1)
  there = new Map()
  most = 100
  keepers = []
})
afterEach(async () => {
  await Promise.all(keepers.map((keeper) => keeper.close()))
  await stage.remove()
})

const fork = {
  async forkChild({ parentId, childId, paused }) {
    if (there.size >= most) throw new ProviderError('INSUFFICIENT_CAPACITY', 'No memory is left.', { retryable: true, remedy: 'Wait.' })
    there.set(childId, { childId, parentId, state: paused ? 'PAUSED' : 'RUNNING', memoryBytes: 1, startedAt: new Date().toISOString() })
    return { channel: { path: `/${childId}` }, mac: null }
  },
  listChildren: async () => [...there.values()],
  deleteChild: async ({ childId }) => void there.delete(childId),
} as Pick<ForkCapability, 'forkChild' | 'listChildren' | 'deleteChild'> as ForkCapability

function keeper(): PausedChildren {
  const made = createPausedChildren({
    database,
    connections: {
      connection: async (cloudId: string) => (cloudId === 'east' ? { fork } : {}) as unknown as ProviderConnection,
    } as unknown as Parameters<typeof createPausedChildren>[0]['connections'],
    timings: { pollMs: 10 },
    log: () => {},
  })
  made.begin()
  keepers.push(made)
  return made
}

const wish = (pausedChildren: number) => storeParent(database, 'READY', { pausedChildren })
const change = (id: string, values: Partial<typeof parentVms.$inferInsert>) =>
  database.write((orm) => [orm.update(parentVms).set(values).where(eq(parentVms.id, id))])
const copyOf = (id: string) => ({ cloudId: 'east', parentId: `${id}-1` })
const limits = usualChildLimits({ memoryBytes: 2 ** 28 })
const untilThereAre = (count: number) => vi.waitFor(() => expect(there.size).toBe(count), 5_000)

test('as many as are wished stand ready, paused, and the copy tells how many', async () => {
  const id = await wish(3)
  const pool = keeper()
  await vi.waitFor(() => expect(pool.ready(copyOf(id))).toBe(3), 5_000)
  expect([...there.values()].every(({ state, parentId }) => state === 'PAUSED' && parentId === `${id}-1`)).toBe(true)
  await vi.waitFor(async () => expect((await database.select().from(parentVmCopies))[0]!.pausedChildren).toBe(3), 5_000)
})

test('one that is taken is replaced, and nobody is given it twice', async () => {
  const id = await wish(2)
  const pool = keeper()
  await vi.waitFor(() => expect(pool.ready(copyOf(id))).toBe(2), 5_000)
  const taken = [pool.take(copyOf(id), limits), pool.take(copyOf(id), limits)]
  expect(new Set(taken).size).toBe(2)
  expect(pool.take(copyOf(id), limits)).toBeNull()
  await untilThereAre(4)
  expect(taken).not.toContain(pool.take(copyOf(id), limits))
})

test('a job whose children have other limits is given none', async () => {
  const id = await wish(1)
  const pool = keeper()
  await vi.waitFor(() => expect(pool.ready(copyOf(id))).toBe(1), 5_000)
  expect(pool.take(copyOf(id), { ...limits, cpuShare: 0.5 })).toBeNull()
  expect(pool.take(copyOf(id), limits)).not.toBeNull()
})

describe('nothing outlives its purpose:', () => {
  test('fewer are wished, or none', async () => {
    const id = await wish(4)
    keeper()
    await untilThereAre(4)
    await change(id, { pausedChildren: 1 })
    await untilThereAre(1)
    await change(id, { pausedChildren: 0 })
    await untilThereAre(0)
  })

  test('the parent is being built anew', async () => {
    const id = await wish(2)
    keeper()
    await untilThereAre(2)
    await change(id, { state: 'REGISTERED', generation: 2 })
    await untilThereAre(0)
  })

  test('the parent is about to be deleted, which children would keep from it', async () => {
    const id = await wish(2)
    const pool = keeper()
    await untilThereAre(2)
    await change(id, { state: 'DELETING' })
    await pool.drain(copyOf(id), AbortSignal.timeout(5_000))
    expect(there.size).toBe(0)
  })

  test('the control plane ends', async () => {
    await wish(2)
    const pool = keeper()
    await untilThereAre(2)
    await pool.close()
    expect(there.size).toBe(0)
  })

  test('the control plane was killed, and nobody wishes them any more', async () => {
    const id = await wish(2)
    keeper()
    await untilThereAre(2)
    const left = new Map(there)
    await keepers.pop()!.close()
    there = left
    await change(id, { pausedChildren: 0 })
    keeper()
    await untilThereAre(0)
  })
})

test('after a crash they are found again, but for the one that a job had taken', async () => {
  const id = await wish(2)
  const first = keeper()
  await vi.waitFor(() => expect(first.ready(copyOf(id))).toBe(2), 5_000)
  const claimed = first.take(copyOf(id), limits)!
  const left = new Map(there)
  await keepers.pop()!.close()
  there = left
  const child = { id: claimed, jobId: 'job', cloudId: 'east', ordinal: 1, state: 'FORKING' as const, createdAt: new Date() }
  await database.write((orm) => [orm.insert(jobChildren).values(child)])
  const pool = keeper()
  await vi.waitFor(() => expect(pool.ready(copyOf(id))).toBe(2), 5_000)
  const found = [pool.take(copyOf(id), limits), pool.take(copyOf(id), limits)]
  expect(found).not.toContain(claimed)
  expect(found.some((childId) => left.has(childId!))).toBe(true)
  expect(there.has(claimed)).toBe(true)
})

test('one that died is replaced, and one that is old', async () => {
  await wish(2)
  keeper()
  await untilThereAre(2)
  const [dead, old] = [...there.values()]
  there.set(dead!.childId, { ...dead!, state: 'ENDED' })
  there.set(old!.childId, { ...old!, startedAt: new Date(Date.now() - limits.maxLifetimeMs / 2).toISOString() })
  keeper()
  await vi.waitFor(() => expect([there.has(dead!.childId), there.has(old!.childId), there.size]).toEqual([false, false, 2]), 5_000)
})

test('where no more fit there are as many as fit', async () => {
  const id = await wish(5)
  most = 3
  const pool = keeper()
  await vi.waitFor(() => expect(pool.ready(copyOf(id))).toBe(3), 5_000)
  await vi.waitFor(async () => expect((await database.select().from(parentVmCopies))[0]!.pausedChildren).toBe(3), 5_000)
})
