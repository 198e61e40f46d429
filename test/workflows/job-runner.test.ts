/** A job's workflow alone, driven by hand, on children that are scripted: what a crash, a cancel and a lack of parents make of it. */
import { randomUUID } from 'node:crypto'
import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Database } from '../../src/database/client.ts'
import { jobChildren, jobEvents, jobPrograms, jobs, jobTaskLogs, jobTasks } from '../../src/database/tables/job.ts'
import { parentVmCopies, parentVms } from '../../src/database/tables/parent-vm.ts'
import type { JobRequest } from '../../src/domain/job.ts'
import { partition } from '../../src/domain/job-partition.ts'
import { ProviderError, type ForkCapability, type ProviderConnection } from '../../src/plugin-sdk/index.ts'
import { createJobRunner, type JobRunner } from '../../src/workflows/job-runner.ts'
import { scriptedChildren, type Deed } from '../job-environment/support/scripted-children.ts'
import { storeMachines, temporaryDatabase } from './support/group-stage.ts'
import { storeParent } from './support/store-parent.ts'

let stage: Awaited<ReturnType<typeof temporaryDatabase>>
let database: Database
let children: ReturnType<typeof scriptedChildren>
let runners: JobRunner[]
let room: number
let running: Map<string, string>
let deletedParents: string[]
/** Of the children, in the order of their forks. */
let memoryLimits: number[]
/** Ids of those that stand ready. */
let ready: string[]
let resumed: string[]
let disconnected: boolean
/** Clouds where those that stand ready were asked to make room. */
let yielded: string[]
/** Of those, the ones that died while they stood. */
let dead: string[]

beforeEach(async () => {
  stage = await temporaryDatabase()
  database = stage.database
  await storeMachines(database, 1)
  children = scriptedChildren()
  runners = []
  room = 8
  running = new Map()
  deletedParents = []
  memoryLimits = []
  ready = []
  resumed = []
  disconnected = false
  yielded = []
  dead = []
})
afterEach(async () => {
  await Promise.all(runners.map((runner) => runner.close()))
  children[Symbol.dispose]()
  await stage.remove()
})

/** The cloud `east` forks scripted children, and remembers them as a real one does. */
const fork: ForkCapability = {
  isolation: { unprivilegedUser: false, sandbox: false },
  networkIds: [],
  bootParent: () => Promise.reject(new Error('not here')),
  saveParent: () => Promise.reject(new Error('not here')),
  describeParents: async () => [],
  hashParent: async () => ({ ramSha256: 'ram', diskSha256: 'disk' }),
  deleteParent: async ({ parentId }) => void deletedParents.push(parentId),
  capacity: async () => ({ children: room, freeMemoryBytes: 1e9, perChildBytes: 1e8, reason: 'So many.' }),
  async forkChild({ childId, limits }) {
    memoryLimits.push(limits.memoryBytes)
    const forked = await children.fork(0)
    running.set(childId, forked.id)
    return { channel: forked.channel, mac: null }
  },
  async resumeChild({ childId }) {
    if (dead.includes(childId)) throw new Error(`The child ${childId} has ended.`)
    resumed.push(childId)
  },
  listChildren: async () => [],
  async deleteChild({ childId }) {
    if (disconnected) throw new ProviderError('NOT_FOUND', 'There is no such cloud.', { retryable: false, remedy: 'Connect it.' })
    const scripted = running.get(childId)
    running.delete(childId)
    if (scripted) await children.remove(scripted)
  },
}

function newRunner(): JobRunner {
  const runner = createJobRunner({
    database,
    connections: {
      connection: (cloudId: string) =>
        cloudId === 'east' ? Promise.resolve({ fork } as unknown as ProviderConnection) : Promise.resolve({} as ProviderConnection),
    } as unknown as Parameters<typeof createJobRunner>[0]['connections'],
    childImage: () => Promise.reject(new Error('not here')),
    pausedChildren: {
      ready: (_, { cpuShare }) => (cpuShare === 1 ? ready.length : 0),
      take: (_, { cpuShare }) => (cpuShare === 1 ? (ready.shift() ?? null) : null),
      yieldRoom: (cloudIds) => void yielded.push(...cloudIds),
      drain: async () => {},
    },
    timings: { sliceMs: 200, pollMs: 20 },
    log: () => {},
  })
  runners.push(runner)
  return runner
}

async function drive(runner: JobRunner, jobId: string): Promise<void> {
  for (let next: string | null = 'BEGIN'; next !== null;) next = await runner.advance(jobId)
}

const request: JobRequest = {
  requirements: { parentVmId: null, runtime: 'NODE', runtimeVersion: null, libraries: [] },
  privileges: { networkId: null, cpuShare: 1, memoryBytes: null, diskBytes: 1e6, maxLifetimeMs: 60_000, peers: 'INTERACTING' },
  children: 3,
  retries: 0,
  taskTimeoutMs: 10_000,
  onPoisonTask: 'FAIL',
  cloudIds: null,
}

async function storeJob(deeds: Deed[], overrides: Partial<JobRequest> = {}, interactsWith: number[][] = []): Promise<string> {
  const jobId = randomUUID()
  const now = new Date()
  const tasks = deeds.map((_, index) => ({ index, interactsWith: interactsWith[index] ?? [] }))
  const { components } = partition(tasks, 1)
  const componentOf = new Map(components.flatMap((members, component) => members.map((index) => [index, component])))
  await database.write((orm) => [
    orm.insert(jobs).values({
      id: jobId,
      name: 'squares',
      state: 'PENDING',
      desired: 'RUN',
      request: { ...request, ...overrides },
      engineId: 'engine',
      tasksTotal: deeds.length,
      components: components.length,
      createdAt: now,
      updatedAt: now,
    }),
    orm.insert(jobPrograms).values({ jobId, source: 'source', shared: {} }),
    orm.insert(jobTasks).values(
      tasks.map(({ index, interactsWith: others }) => ({
        jobId,
        index,
        state: 'PENDING' as const,
        component: componentOf.get(index)!,
        interactsWith: others,
        input: deeds[index],
      })),
    ),
  ])
  return jobId
}

const read = async (jobId: string) => (await database.select().from(jobs).where(eq(jobs.id, jobId)))[0]!
const tasksOf = (jobId: string) => database.select().from(jobTasks).where(eq(jobTasks.jobId, jobId)).orderBy(jobTasks.index)
const childrenOf = (jobId: string) => database.select().from(jobChildren).where(eq(jobChildren.jobId, jobId))
const answers = (count: number): Deed[] => Array.from({ length: count }, (_, index) => ({ answer: { square: index * index } }))

test('a job is done: every output is stored, the parent is named with the reason, and no child is left', async () => {
  const parentId = await storeParent(database, 'READY')
  const jobId = await storeJob([...answers(50), { say: 'a word' }, { answer: null }])
  await drive(newRunner(), jobId)
  const job = await read(jobId)
  expect(job).toMatchObject({
    state: 'SUCCEEDED',
    parentVmId: parentId,
    parentReason: expect.stringContaining('the only one of 1') as string,
  })
  const tasks = await tasksOf(jobId)
  expect(tasks.slice(0, 50).map(({ output }) => output)).toEqual(Array.from({ length: 50 }, (_, index) => ({ square: index * index })))
  expect(tasks.every(({ state, attempts, endedAt }) => state === 'DONE' && attempts === 1 && endedAt !== null)).toBe(true)
  expect(tasks[51]!.output).toBeNull()
  expect(await database.select().from(jobTaskLogs)).toMatchObject([{ jobId, index: 50, text: 'a word', truncated: false }])
  expect((await childrenOf(jobId)).map(({ state }) => state)).toEqual(['DELETED', 'DELETED', 'DELETED'])
  expect(running.size).toBe(0)
  const events = await database.select().from(jobEvents).where(eq(jobEvents.jobId, jobId)).orderBy(jobEvents.sequence)
  expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, place) => place + 1))
  expect(events.map(({ kind }) => kind)).toEqual(expect.arrayContaining(['PARENT_CHOSEN', 'PARTITIONED', 'CHILD_READY', 'STATE_CHANGED']))
})

test('a restart of the control plane runs again only what had not ended, on new children, and removes the old ones', async () => {
  await storeParent(database, 'READY')
  const jobId = await storeJob([...answers(30), { hang: true }])
  const first = newRunner()
  const driven = drive(first, jobId).catch(() => {})
  await vi.waitFor(async () => expect((await tasksOf(jobId)).filter(({ state }) => state === 'DONE')).toHaveLength(30))
  await first.close()
  await driven
  expect(await read(jobId)).toMatchObject({ state: 'RUNNING' })
  const before = children.executions.length
  await database.write((orm) => [
    orm
      .update(jobTasks)
      .set({ input: { answer: 'at last' } })
      .where(eq(jobTasks.index, 30)),
  ])
  await drive(newRunner(), jobId)
  expect(await read(jobId)).toMatchObject({ state: 'SUCCEEDED' })
  expect(children.executions.slice(before).map(({ index }) => index)).toEqual([30])
  expect((await tasksOf(jobId))[30]).toMatchObject({ state: 'DONE', output: 'at last', attempts: 2 })
  expect(running.size).toBe(0)
  expect((await childrenOf(jobId)).every(({ state }) => state === 'DELETED')).toBe(true)
})

test('a child that dies is shown as lost with the reason, and its successor is another', async () => {
  await storeParent(database, 'READY')
  const jobId = await storeJob([{ dieOnce: true }], { children: 1 })
  await drive(newRunner(), jobId)
  const [lost, successor] = (await childrenOf(jobId)).toSorted((a, b) => a.ordinal - b.ordinal)
  expect(lost).toMatchObject({ ordinal: 1, state: 'LOST', lossReason: 'The channel to the child closed.' })
  expect(successor).toMatchObject({ ordinal: 2, state: 'DELETED', tasksDone: 1 })
  expect((await tasksOf(jobId))[0]).toMatchObject({ state: 'DONE', attempts: 2, kills: 1 })
})

test('a restart of the control plane gives a task no further retries', async () => {
  await storeParent(database, 'READY')
  const jobId = await storeJob([{ fail: 'no luck' }, { hang: true }], { retries: 1, children: 2 })
  await database.write((orm) => [orm.update(jobTasks).set({ failures: 1 }).where(eq(jobTasks.index, 0))])
  await drive(newRunner(), jobId)
  expect(await read(jobId)).toMatchObject({ state: 'FAILED', problemMessage: 'Task 0 failed twice: no luck' })
  expect((await tasksOf(jobId))[0]).toMatchObject({ attempts: 1, failures: 2 })
})

test('children that stand ready are resumed and not forked, and hold room that others do not have', async () => {
  await storeParent(database, 'READY')
  ready = ['paused-1', 'paused-2']
  room = 1
  const jobId = await storeJob(answers(9), { children: 3 })
  await drive(newRunner(), jobId)
  expect(resumed).toEqual(['paused-1', 'paused-2'])
  const made = await childrenOf(jobId)
  expect(made.filter(({ wasPaused }) => wasPaused).map(({ id }) => id)).toEqual(['paused-1', 'paused-2'])
  expect(made).toHaveLength(3)
  expect(made.every(({ state }) => state === 'DELETED')).toBe(true)
})

test('a job whose children are bounded in another way than those that stand ready does not count on them', async () => {
  await storeParent(database, 'READY')
  ready = ['paused-1', 'paused-2']
  room = 0
  const jobId = await storeJob(answers(3), { privileges: { ...request.privileges, cpuShare: 0.5 } })
  const driven = drive(newRunner(), jobId)
  await vi.waitFor(async () => expect((await read(jobId)).problemMessage).toMatch(/It waits for room/))
  room = 2
  await driven
  expect((await read(jobId)).state).toBe('SUCCEEDED')
  expect(ready).toHaveLength(2)
})

test('a job with fewer children than it asked for says how many stood ready for it', async () => {
  await storeParent(database, 'READY')
  ready = ['paused-1', 'paused-2']
  room = 0
  const jobId = await storeJob(answers(4), { children: 4 })
  await drive(newRunner(), jobId)
  const events = await database.select().from(jobEvents).where(eq(jobEvents.jobId, jobId))
  expect(events.find(({ kind }) => kind === 'PARTITIONED')!.message).toContain('for 2 children (4 were asked for: 2 stand ready. So many.)')
})

test('where those that stood ready are dead, a child is forked at once, however many they were', async () => {
  await storeParent(database, 'READY')
  ready = Array.from({ length: 9 }, (_, index) => `paused-${index}`)
  dead = [...ready]
  const jobId = await storeJob(answers(3), { children: 1 })
  await drive(newRunner(), jobId)
  expect((await read(jobId)).state).toBe('SUCCEEDED')
  const made = (await childrenOf(jobId)).toSorted((a, b) => a.ordinal - b.ordinal)
  expect(made).toMatchObject([
    { ordinal: 1, wasPaused: true, state: 'LOST', lossReason: 'The child paused-0 has ended.' },
    { ordinal: 2, wasPaused: false, state: 'DELETED' },
  ])
})

describe('a job ends', () => {
  test('when it is cancelled: what was done stays, and no child is left', async () => {
    await storeParent(database, 'READY')
    const jobId = await storeJob([{ answer: 1 }, { hang: true }])
    const driven = drive(newRunner(), jobId)
    await vi.waitFor(async () => expect((await tasksOf(jobId))[0]!.state).toBe('DONE'))
    await database.write((orm) => [orm.update(jobs).set({ desired: 'CANCEL' }).where(eq(jobs.id, jobId))])
    await driven
    expect(await read(jobId)).toMatchObject({ state: 'CANCELLED', problemCode: null })
    expect(await tasksOf(jobId)).toMatchObject([{ state: 'DONE', output: 1 }, { state: 'PENDING' }])
    expect(running.size).toBe(0)
  })

  test('with the name of the task that failed', async () => {
    await storeParent(database, 'READY')
    const jobId = await storeJob([{ fail: 'no luck' }])
    await drive(newRunner(), jobId)
    expect(await read(jobId)).toMatchObject({ state: 'FAILED', problemCode: 'TASK_FAILED', problemMessage: 'Task 0 failed once: no luck' })
    expect((await tasksOf(jobId))[0]).toMatchObject({ state: 'FAILED', error: 'Task 0 failed once: no luck' })
  })

  test('where no parent offers what it asks for, with the requirement', async () => {
    await storeParent(database, 'READY')
    const jobId = await storeJob(answers(1), { requirements: { ...request.requirements, runtime: 'PYTHON' } })
    await drive(newRunner(), jobId)
    expect(await read(jobId)).toMatchObject({
      state: 'FAILED',
      problemCode: 'NO_PARENT_MATCHES',
      problemMessage: 'No parent VM that is ready offers the runtime PYTHON. No task was run.',
    })
  })
})

test('a child of which nobody knows whether it is gone is not said to be deleted', async () => {
  await storeParent(database, 'READY')
  const jobId = await storeJob(answers(3), { children: 1 })
  disconnected = true
  await drive(newRunner(), jobId)
  expect(await read(jobId)).toMatchObject({ state: 'SUCCEEDED' })
  expect(await childrenOf(jobId)).toMatchObject([{ state: 'LOST', lossReason: expect.stringContaining('could not be removed') as string }])
  disconnected = false
})

test('a fork that fails is shown with its reason, and tried again', async () => {
  await storeParent(database, 'READY')
  children[Symbol.dispose]()
  children = scriptedChildren({ failForks: 1 })
  const jobId = await storeJob(answers(3), { children: 1 })
  await drive(newRunner(), jobId)
  expect(await read(jobId)).toMatchObject({ state: 'SUCCEEDED' })
  const made = (await childrenOf(jobId)).toSorted((a, b) => a.ordinal - b.ordinal)
  expect(made).toMatchObject([
    { state: 'LOST', lossReason: 'No room for a child.' },
    { state: 'DELETED', tasksDone: 3 },
  ])
})

test('a job waits where no child fits now, says so, and goes on when there is room', async () => {
  await storeParent(database, 'READY')
  room = 0
  const jobId = await storeJob(answers(3))
  const driven = drive(newRunner(), jobId)
  await vi.waitFor(async () => expect((await read(jobId)).problemMessage).toMatch(/room for a child now.*It waits for room/))
  expect(yielded).toContain('east')
  room = 2
  await driven
  expect(await read(jobId)).toMatchObject({ state: 'SUCCEEDED', problemCode: null })
  expect(await childrenOf(jobId)).toHaveLength(2)
})

test('a job ends with the generation of the parent that it began with, which is deleted then', async () => {
  const parentId = await storeParent(database, 'READY')
  const jobId = await storeJob([{ answer: 1 }, { hang: true }])
  const driven = drive(newRunner(), jobId)
  await vi.waitFor(async () => expect((await tasksOf(jobId))[0]!.state).toBe('DONE'))
  await database.write((orm) => [orm.update(parentVms).set({ generation: 2 }), orm.update(jobs).set({ desired: 'CANCEL' })])
  await driven
  expect(deletedParents).toEqual([`${parentId}-1`])
  expect(await database.select().from(parentVmCopies)).toMatchObject([{ generation: 1, state: 'DELETED' }])
})

test('a job that goes on after a restart keeps to the recipe that it began with, whatever its parent is registered with by then', async () => {
  await storeParent(database, 'READY')
  const jobId = await storeJob([{ answer: 1 }, { hang: true }], { children: 1 })
  const first = newRunner()
  const driven = drive(first, jobId).catch(() => {})
  await vi.waitFor(async () => expect((await tasksOf(jobId))[0]!.state).toBe('DONE'))
  await first.close()
  await driven
  const [{ recipe }] = (await database.select().from(parentVms)) as [typeof parentVms.$inferSelect]
  await database.write((orm) => [
    orm.update(parentVms).set({ generation: 2, recipe: { ...recipe, memoryBytes: recipe.memoryBytes * 2 } }),
    orm
      .update(jobTasks)
      .set({ input: { answer: 2 } })
      .where(eq(jobTasks.index, 1)),
  ])
  await drive(newRunner(), jobId)
  expect(await read(jobId)).toMatchObject({ state: 'SUCCEEDED' })
  expect(memoryLimits).toHaveLength(2)
  expect(new Set(memoryLimits)).toHaveProperty('size', 1)
})

test('a component that is too large for its share is said so', async () => {
  await storeParent(database, 'READY')
  const jobId = await storeJob(answers(6), {}, [[1], [2], [3], [], [], []])
  await drive(newRunner(), jobId)
  expect((await read(jobId)).imbalance).toBe(
    "The largest component has 4 tasks, more than a child's even share of 2: the job takes as long as these.",
  )
})
