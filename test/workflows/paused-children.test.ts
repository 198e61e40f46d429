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
/** As the cloud answers for it. */
let room: number
/** Awaited before a child is forked. */
let beforeFork: () => unknown
/** Clouds that answer nothing but this. */
let faults: Map<string, Promise<never>>
let keepers: PausedChildren[]

beforeEach(async () => {
  stage = await temporaryDatabase()
  database = stage.database
  await storeMachines(database, 1)
  there = new Map()
  most = 100
  room = 100
  beforeFork = () => {}
  faults = new Map()
  keepers = []
})
afterEach(async () => {
  await Promise.all(keepers.map((keeper) => keeper.close()))
  await stage.remove()
})

const fork = {
  async forkChild({ parentId, childId, paused }) {
    await beforeFork()
    if (there.size >= most) throw new ProviderError('INSUFFICIENT_CAPACITY', 'No memory is left.', { retryable: true, remedy: 'Wait.' })
    there.set(childId, { childId, parentId, state: paused ? 'PAUSED' : 'RUNNING', memoryBytes: 1, startedAt: new Date().toISOString() })
    return { channel: { path: `/${childId}` }, mac: null }
  },
  capacity: async () => ({ children: room, freeMemoryBytes: 1e9, perChildBytes: 1e8, reason: 'So many.' }),
  listChildren: async () => [...there.values()],
  deleteChild: async ({ childId }) => void there.delete(childId),
} as Pick<ForkCapability, 'forkChild' | 'capacity' | 'listChildren' | 'deleteChild'> as ForkCapability

function keeper(engineId = 'engine'): PausedChildren {
  const made = createPausedChildren({
    database,
    connections: {
      connection: async (cloudId: string) => {
        const fault = faults.get(cloudId)
        const elsewhere = { ...fork, listChildren: () => fault ?? Promise.resolve([]) }
        return { fork: fault || cloudId !== 'east' ? elsewhere : fork } as unknown as ProviderConnection
      },
    } as unknown as Parameters<typeof createPausedChildren>[0]['connections'],
    timings: { pollMs: 10 },
    log: () => {},
  })
  made.begin(engineId)
  keepers.push(made)
  return made
}

function away(): Promise<never> {
  const gone = Promise.withResolvers<never>()
  gone.promise.catch(() => {})
  gone.reject(new Error('The cloud is away.'))
  return gone.promise
}

const wish = (pausedChildren: number) => storeParent(database, 'READY', { pausedChildren })
const change = (id: string, values: Partial<typeof parentVms.$inferInsert>) =>
  database.write((orm) => [orm.update(parentVms).set(values).where(eq(parentVms.id, id))])
const copyOf = (id: string) => ({ cloudId: 'east', parentId: `${id}-1` })
const countOf = async (id: string) =>
  (await database.select().from(parentVmCopies).where(eq(parentVmCopies.parentVmId, id)))[0]!.pausedChildren
const limits = usualChildLimits({ memoryBytes: 2 ** 28 })
const untilThereAre = (count: number) => vi.waitFor(() => expect(there.size).toBe(count), 5_000)

test('as many as are wished stand ready, paused, and the copy tells how many', async () => {
  const id = await wish(3)
  const pool = keeper()
  await vi.waitFor(() => expect(pool.ready(copyOf(id), limits)).toBe(3), 5_000)
  expect([...there.values()].every(({ state, parentId }) => state === 'PAUSED' && parentId === `${id}-1`)).toBe(true)
  await vi.waitFor(async () => expect((await database.select().from(parentVmCopies))[0]!.pausedChildren).toBe(3), 5_000)
})

test('one that is taken is replaced, and nobody is given it twice', async () => {
  const id = await wish(2)
  const pool = keeper()
  await vi.waitFor(() => expect(pool.ready(copyOf(id), limits)).toBe(2), 5_000)
  const taken = [pool.take(copyOf(id), limits), pool.take(copyOf(id), limits)]
  expect(new Set(taken).size).toBe(2)
  expect(pool.take(copyOf(id), limits)).toBeNull()
  await untilThereAre(4)
  expect(taken).not.toContain(pool.take(copyOf(id), limits))
})

test('they make room for a job that waits for it, and do not come back at once', async () => {
  const id = await wish(2)
  const pool = keeper()
  await vi.waitFor(() => expect(pool.ready(copyOf(id), limits)).toBe(2), 5_000)
  pool.yieldRoom(['west'])
  pool.take(copyOf(id), limits)
  await untilThereAre(3)
  pool.yieldRoom(['east'])
  // The one that was taken stays.
  await untilThereAre(1)
  await new Promise((later) => setTimeout(later, 200))
  expect(there.size).toBe(1)
})

test('a job whose children have other limits is given none', async () => {
  const id = await wish(1)
  const pool = keeper()
  await vi.waitFor(() => expect(pool.ready(copyOf(id), limits)).toBe(1), 5_000)
  expect(pool.ready(copyOf(id), { ...limits, cpuShare: 0.5 })).toBe(0)
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
    await vi.waitFor(async () => expect(await countOf(id)).toBe(0), 5_000)
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
    const id = await wish(2)
    const pool = keeper()
    await vi.waitFor(async () => expect(await countOf(id)).toBe(2), 5_000)
    await pool.close()
    expect(there.size).toBe(0)
    expect(await countOf(id)).toBe(0)
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

  test('the control plane was killed, and is back before the cloud is', async () => {
    const id = await wish(2)
    keeper()
    await untilThereAre(2)
    const left = new Map(there)
    await keepers.pop()!.close()
    there = left
    await change(id, { pausedChildren: 0 })
    faults.set('east', away())
    const pool = keeper()
    const other = await storeParent(database, 'READY', { pausedChildren: 1 }, 'west')
    await vi.waitFor(() => expect(pool.ready({ cloudId: 'west', parentId: `${other}-1` }, limits)).toBe(1), 5_000)
    faults.clear()
    await change(other, { pausedChildren: 0 })
    await vi.waitFor(() => expect([...left.keys()].filter((childId) => there.has(childId))).toEqual([]), 5_000)
  })
})

describe('several control planes:', () => {
  test('only the one that built a parent keeps and gives its children, so none is given twice', async () => {
    const id = await wish(2)
    const pool = keeper()
    await vi.waitFor(() => expect(pool.ready(copyOf(id), limits)).toBe(2), 5_000)
    const other = keeper('another engine')
    const own = await storeParent(database, 'READY', { pausedChildren: 1, engineId: 'another engine' })
    await vi.waitFor(() => expect(other.ready(copyOf(own), limits)).toBe(1), 5_000)
    expect(other.take(copyOf(id), limits)).toBeNull()
    await other.close()
    expect(there.size).toBe(2)
  })

  test('what one with another database has forked at the cloud is left alone', async () => {
    const [childId, startedAt] = ['paused-0123abcd-theirs', new Date().toISOString()]
    there.set(childId, { childId, parentId: 'theirs-1', state: 'PAUSED', memoryBytes: 1, startedAt })
    const id = await wish(1)
    const pool = keeper()
    await vi.waitFor(async () => expect(await countOf(id)).toBe(1), 5_000)
    await pool.close()
    expect([...there.keys()]).toEqual([childId])
  })
})

test('a cloud that gives no answer keeps the others from nothing', async () => {
  faults.set('east', away())
  await wish(1)
  const id = await storeParent(database, 'READY', { pausedChildren: 1 }, 'west')
  const pool = keeper()
  await vi.waitFor(() => expect(pool.ready({ cloudId: 'west', parentId: `${id}-1` }, limits)).toBe(1), 5_000)
})

test('whoever waits for a cloud that does not answer can give up', async () => {
  faults.set('east', new Promise(() => {}))
  const id = await wish(1)
  const giveUp = new AbortController()
  const pool = keeper()
  const drained = pool.drain(copyOf(id), giveUp.signal)
  giveUp.abort(new Error('It is over.'))
  await expect(drained).rejects.toThrow('It is over.')
  faults.clear()
  // What nobody answers can't be closed.
  keepers.pop()
})

test('one that is taken while others are being forked is replaced as well', async () => {
  const ids = [await wish(1), await wish(1)]
  const second = Promise.withResolvers<void>()
  let forks = 0
  beforeFork = () => (++forks === 2 ? second.promise : undefined)
  const pool = keeper()
  const taken = await vi.waitFor(() => {
    const childId = ids.map((id) => pool.take(copyOf(id), limits)).find((found) => found !== null)
    expect(childId).toBeDefined()
    return childId!
  }, 5_000)
  await vi.waitFor(() => expect(forks).toBe(2), 5_000)
  second.resolve()
  await untilThereAre(3)
  expect(there.has(taken)).toBe(true)
})

test('what other children were promised is not taken from them', async () => {
  const id = await wish(5)
  room = 2
  const pool = keeper()
  await vi.waitFor(async () => expect(await countOf(id)).toBe(2), 5_000)
  expect(pool.ready(copyOf(id), limits)).toBe(2)
  expect(there.size).toBe(2)
})

test('after a crash they are found again, but for the one that a job had taken', async () => {
  const id = await wish(2)
  const first = keeper()
  await vi.waitFor(() => expect(first.ready(copyOf(id), limits)).toBe(2), 5_000)
  const claimed = first.take(copyOf(id), limits)!
  const left = new Map(there)
  await keepers.pop()!.close()
  there = left
  const child = { id: claimed, jobId: 'job', cloudId: 'east', ordinal: 1, state: 'FORKING' as const, createdAt: new Date() }
  await database.write((orm) => [orm.insert(jobChildren).values(child)])
  const pool = keeper()
  await vi.waitFor(() => expect(pool.ready(copyOf(id), limits)).toBe(2), 5_000)
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
  await vi.waitFor(() => expect(pool.ready(copyOf(id), limits)).toBe(3), 5_000)
  await vi.waitFor(async () => expect((await database.select().from(parentVmCopies))[0]!.pausedChildren).toBe(3), 5_000)
})
