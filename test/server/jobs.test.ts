import { randomUUID } from 'node:crypto'
import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { limits } from '../../schema/limits.ts'
import { auditEntries } from '../../src/database/tables/audit.ts'
import { jobChildren, jobEvents, jobPrograms, jobs, jobTaskLogs, jobTasks } from '../../src/database/tables/job.ts'
import { parentVmCopies, parentVms } from '../../src/database/tables/parent-vm.ts'
import type { JobRequest } from '../../src/domain/job.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import { exampleTabs } from '../../src/server/graphiql-examples.ts'
import { createIdempotency } from '../../src/workflows/idempotency.ts'
import { createJobOperations } from '../../src/workflows/job-operations.ts'
import { createParentVmOperations } from '../../src/workflows/parent-vm-operations.ts'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { idOf, seed } from './seed.ts'

let api: ApiUnderTest
let viewer: string
let operator: string
let admin: string
const at = new Date('2026-11-22T14:00:00Z')
const jobId = idOf('Job', 'j1')
const parentVmId = idOf('ParentVm', 'p1')

beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  await seedParent()
  await seedJob()
  viewer = await api.tokenOf('VIEWER')
  operator = await api.tokenOf('OPERATOR')
  admin = await api.tokenOf('ADMIN')
})
afterAll(() => api.stop())
beforeEach(() => {
  const idempotency = createIdempotency(api.db, sealKeyOf(Buffer.alloc(32, 7)), api.audit)
  const submit = async () => {}
  api.behave({
    ...createJobOperations({ database: api.db, idempotency, engineId: 'engine', submit }),
    ...createParentVmOperations({ idempotency, engineId: 'engine', submitParent: submit }),
  })
  api.logged.length = 0
})

async function seedParent(): Promise<void> {
  const privileges = { network: false, cpuShare: 1, diskBytes: 2 ** 30, maxLifetimeMs: 3_600_000 }
  const copy = { parentVmId: 'p1', generation: 1, memoryBytes: 90_000_000, savedAt: at, saveMs: 900, ramSha256: 'aa', diskSha256: 'bb' }
  await api.db.write((orm) => [
    orm.insert(parentVms).values({
      id: 'p1',
      name: 'node',
      recipe: { runtime: 'NODE', packages: ['nodejs'], imagePath: null, warmUp: '1', memoryBytes: 2 ** 28, cpuCount: 1, privileges },
      recipeDigest: 'digest',
      offers: { runtime: 'NODE', runtimeVersion: '18.20.4', libraries: { lodash: '4.17.21', async: '3.2.4' } },
      state: 'READY',
      engineId: 'engine',
      createdAt: at,
      updatedAt: at,
    }),
    orm.insert(parentVmCopies).values([
      { ...copy, cloudId: 'east', state: 'READY', bootMs: 20_000 },
      { ...copy, cloudId: 'west', state: 'FAILED', problem: 'No room.' },
    ]),
  ])
}

/** A job half done, as its workflow writes it. */
async function seedJob(): Promise<void> {
  const request: JobRequest = {
    requirements: { parentVmId: null, runtime: 'NODE', runtimeVersion: '18', libraries: [{ name: 'lodash', version: null }] },
    privileges: { networkId: null, cpuShare: 0.5, memoryBytes: null, diskBytes: 0, maxLifetimeMs: 60_000, peers: 'INTERACTING' },
    children: 2,
    retries: 1,
    taskTimeoutMs: 1_000,
    onPoisonTask: 'SKIP',
    cloudIds: ['east'],
  }
  const task = (index: number): typeof jobTasks.$inferInsert => ({
    jobId: 'j1',
    index,
    state: index < 100 ? 'DONE' : index === 100 ? 'SKIPPED' : index === 101 ? 'RUNNING' : 'PENDING',
    component: index,
    interactsWith: [],
    input: { index },
    output: index < 100 ? index * index : null,
    ...(index <= 101 && { childId: 'c1', attempts: 1, startedAt: at }),
    ...(index < 100 && { durationMs: 5, endedAt: at }),
    ...(index === 100 && { error: 'It killed its child.', kills: 3 }),
  })
  const child = { jobId: 'j1', cloudId: 'east', createdAt: at }
  await api.db.write((orm) => [
    orm.insert(jobs).values({
      id: 'j1',
      name: 'picture',
      state: 'RUNNING',
      desired: 'RUN',
      request,
      parentVmId: 'p1',
      parentGeneration: 1,
      parentReason: 'It fits.',
      parentShaBefore: { east: { ramSha256: 'aa', diskSha256: 'bb' } },
      engineId: 'engine',
      tasksTotal: 250,
      components: 250,
      createdAt: at,
      startedAt: new Date(Date.now() - 10_000),
      updatedAt: at,
    }),
    orm.insert(jobPrograms).values({ jobId: 'j1', source: 'the program', shared: { palette: 'red' } }),
    orm.insert(jobTasks).values(Array.from({ length: 250 }, (_, index) => task(index))),
    orm.insert(jobTaskLogs).values({ jobId: 'j1', index: 3, text: 'a line\n', truncated: true }),
    orm.insert(jobChildren).values([
      { ...child, id: 'c1', ordinal: 1, state: 'BUSY', forkMs: 90, memoryBytes: 9_000_000, tasksDone: 100 },
      { ...child, id: 'c2', ordinal: 2, state: 'LOST', lossReason: 'It was killed.', endedAt: at },
      { ...child, id: 'c3', ordinal: 3, state: 'FORKING' },
    ]),
    orm.insert(jobEvents).values(
      Array.from({ length: 30 }, (_, index) => ({
        jobId: 'j1',
        sequence: index + 1,
        kind: index === 0 ? ('PARENT_CHOSEN' as const) : ('NOTICE' as const),
        message: `event ${index + 1}`,
        childId: index === 1 ? 'c1' : null,
        at,
      })),
    ),
  ])
}

const job = async <Data = Record<string, unknown>>(fields: string, variables: object = {}) => {
  const { data, errors } = await api.run<{ job: Data }>(viewer, `query ($id: ID!) { job(id: $id) { ${fields} } }`, {
    id: jobId,
    ...variables,
  })
  return errors ? { errors } : data.job
}

describe('a parent VM', () => {
  test('is listed with what it is made of, what it offers, its memory, age and children', async () => {
    const { data } = await api.run(
      viewer,
      `{ parentVms { totalCount nodes { name state generation runtime packages warmUp memoryBytes cpuCount childCount
        offers { runtimeVersion libraries { name version } } privileges { network diskBytes maxLifetimeMs }
        copies { cloud { name } state memoryBytes bootMs saveMs savedAt problem } jobs { totalCount nodes { name } } } } }`,
    )
    const copy = { memoryBytes: 90_000_000, saveMs: 900, savedAt: at.toISOString() }
    expect(data).toEqual({
      parentVms: {
        totalCount: 1,
        nodes: [
          {
            name: 'node',
            state: 'READY',
            generation: 1,
            runtime: 'NODE',
            packages: ['nodejs'],
            warmUp: '1',
            memoryBytes: 2 ** 28,
            cpuCount: 1,
            childCount: 2,
            offers: {
              runtimeVersion: '18.20.4',
              libraries: [
                { name: 'async', version: '3.2.4' },
                { name: 'lodash', version: '4.17.21' },
              ],
            },
            privileges: { network: false, diskBytes: 2 ** 30, maxLifetimeMs: 3_600_000 },
            copies: [
              { cloud: { name: 'east' }, state: 'READY', bootMs: 20_000, problem: null, ...copy },
              { cloud: { name: 'west' }, state: 'FAILED', bootMs: null, problem: 'No room.', ...copy },
            ],
            jobs: { totalCount: 1, nodes: [{ name: 'picture' }] },
          },
        ],
      },
    })
  })

  test('is registered by admins alone, is watched until it is ready, and is deleted once no job uses it', async () => {
    const register =
      'mutation ($input: RegisterParentVmInput!) { registerParentVm(input: $input) { ... on RegisterParentVmSuccess { parentVm { id state memoryBytes } } ... on Error { code path } } }'
    const recipe = { runtime: 'PYTHON', packages: ['python3', 'python3-numpy'] }
    const input = { idempotencyKey: randomUUID(), name: 'python', recipe }
    expect((await api.run(operator, register, { input })).errors?.[0]?.extensions).toMatchObject({ code: 'FORBIDDEN' })
    expect((await api.run(admin, register, { input: { ...input, recipe: { ...recipe, packages: ['NumPy'] } } })).data).toEqual({
      registerParentVm: { code: 'INVALID_INPUT', path: ['input', 'recipe', 'packages', '0'] },
    })
    const { data } = await api.run<{ registerParentVm: { parentVm: { id: string } } }>(admin, register, { input })
    expect(data.registerParentVm).toMatchObject({ parentVm: { state: 'REGISTERED', memoryBytes: 2 ** 28 } })
    const { id } = data.registerParentVm.parentVm
    const events = stream('subscription ($id: ID!) { parentVmChanges(parentVmId: $id) { state } }', { id }, 'parentVmChanges')
    expect((await events.next()).value).toEqual({ state: 'REGISTERED' })
    const rowId = Buffer.from(id, 'base64').toString().split(':')[1]!
    await api.db.write(
      (orm) => [orm.update(parentVms).set({ state: 'READY' }).where(eq(parentVms.id, rowId))],
      [{ topic: 'PARENT_VM', subject: rowId }],
    )
    expect((await events.next()).value).toEqual({ state: 'READY' })
    expect(await events.next()).toMatchObject({ done: true })

    const remove =
      'mutation ($input: DeleteParentVmInput!) { deleteParentVm(input: $input) { ... on DeleteParentVmSuccess { parentVm { state } } ... on Error { code message } } }'
    const removing = (of: string) => api.run(admin, remove, { input: { idempotencyKey: randomUUID(), parentVmId: of } })
    expect((await removing(id)).data).toEqual({ deleteParentVm: { parentVm: { state: 'DELETING' } } })
    expect((await removing(parentVmId)).data).toMatchObject({
      deleteParentVm: { code: 'NOT_ALLOWED_NOW', message: expect.stringContaining('"picture"') },
    })
  })
})

describe('a job', () => {
  test('shows what was asked for, why its parent was chosen, its counts and its pace', async () => {
    expect(
      await job(`name state desired childrenWanted retries taskTimeoutMs onPoisonTask program shared { name value } clouds { name }
        requirements { runtime runtimeVersion libraries { name version } parentVm { name } } privileges { network { name } cpuShare memoryBytes diskBytes maxLifetimeMs peers }
        parentVm { name } parentReason parentUnchanged problem { code } tasksTotal componentCount imbalance taskCounts { state count }`),
    ).toEqual({
      name: 'picture',
      state: 'RUNNING',
      desired: 'RUN',
      childrenWanted: 2,
      retries: 1,
      taskTimeoutMs: 1_000,
      onPoisonTask: 'SKIP',
      program: 'the program',
      shared: [{ name: 'palette', value: 'red' }],
      clouds: [{ name: 'east' }],
      requirements: { runtime: 'NODE', runtimeVersion: '18', libraries: [{ name: 'lodash', version: null }], parentVm: null },
      privileges: { network: null, cpuShare: 0.5, memoryBytes: null, diskBytes: 0, maxLifetimeMs: 60_000, peers: 'INTERACTING' },
      parentVm: { name: 'node' },
      parentReason: 'It fits.',
      parentUnchanged: null,
      problem: null,
      tasksTotal: 250,
      componentCount: 250,
      imbalance: null,
      taskCounts: [
        { state: 'PENDING', count: 148 },
        { state: 'RUNNING', count: 1 },
        { state: 'DONE', count: 100 },
        { state: 'FAILED', count: 0 },
        { state: 'SKIPPED', count: 1 },
      ],
    })
    const { tasksPerSecond, etaMs } = (await job('tasksPerSecond etaMs')) as { tasksPerSecond: number; etaMs: number }
    expect(tasksPerSecond).toBeGreaterThan(1)
    expect(tasksPerSecond).toBeLessThan(10.2)
    expect(etaMs).toBeGreaterThan(14_000)
  })

  test('has its tasks in pages by state, each with its child, its log and its output', async () => {
    const fields = `tasks(states: [SKIPPED, RUNNING]) { totalCount nodes { index state attempts kills error child { ordinal } output } }`
    expect(await job(fields)).toEqual({
      tasks: {
        totalCount: 2,
        nodes: [
          { index: 100, state: 'SKIPPED', attempts: 1, kills: 3, error: 'It killed its child.', child: { ordinal: 1 }, output: null },
          { index: 101, state: 'RUNNING', attempts: 1, kills: 0, error: null, child: { ordinal: 1 }, output: null },
        ],
      },
    })
    expect(
      await job('task(index: 3) { index input output log logTruncated durationMs interactsWith } none: task(index: 250) { index }'),
    ).toEqual({
      task: { index: 3, input: { index: 3 }, output: 9, log: 'a line\n', logTruncated: true, durationMs: 5, interactsWith: [] },
      none: null,
    })
  })

  test('gives all its tasks page by page, forwards and backwards', async () => {
    const pages =
      'tasks(first: $first, after: $after, last: $last, before: $before) { pageInfo { hasNextPage hasPreviousPage startCursor endCursor } nodes { index } }'
    const query = `query ($id: ID!, $first: Int, $after: String, $last: Int, $before: String) { job(id: $id) { ${pages} } }`
    interface Page {
      tasks: {
        pageInfo: { hasNextPage: boolean; hasPreviousPage: boolean; startCursor: string; endCursor: string }
        nodes: { index: number }[]
      }
    }
    const ask = async (variables: object) => (await api.run<{ job: Page }>(viewer, query, { id: jobId, ...variables })).data.job.tasks
    const forwards: number[] = []
    for (let after: string | null = null, more = true; more;) {
      const { pageInfo, nodes } = await ask({ first: 90, after })
      forwards.push(...nodes.map(({ index }) => index))
      more = pageInfo.hasNextPage
      after = pageInfo.endCursor
    }
    expect(forwards).toEqual(Array.from({ length: 250 }, (_, index) => index))
    const last = await ask({ last: 2 })
    expect(last.nodes).toEqual([{ index: 248 }, { index: 249 }])
    expect((await ask({ last: 2, before: last.pageInfo.startCursor })).nodes).toEqual([{ index: 246 }, { index: 247 }])
    expect(await api.run(viewer, query, { id: jobId, after: "1' or 1=1" })).toMatchObject({
      errors: [{ extensions: { code: 'INVALID_INPUT', path: ['after'] } }],
    })
  })

  test('has its children and its timeline', async () => {
    expect(
      await job('children { totalCount nodes { ordinal state forkMs memoryBytes tasksDone lossReason cloud { name } job { name } } }'),
    ).toMatchObject({
      children: {
        totalCount: 3,
        nodes: [
          {
            ordinal: 1,
            state: 'BUSY',
            forkMs: 90,
            memoryBytes: 9_000_000,
            tasksDone: 100,
            cloud: { name: 'east' },
            job: { name: 'picture' },
          },
          { ordinal: 2, state: 'LOST', lossReason: 'It was killed.' },
          { ordinal: 3, state: 'FORKING' },
        ],
      },
    })
    expect(await job('children(states: [LOST]) { nodes { ordinal } }')).toEqual({ children: { nodes: [{ ordinal: 2 }] } })
    expect(
      await job(
        'events(first: 2) { totalCount nodes { sequence kind message child { ordinal } at } } last: events(last: 1) { nodes { sequence } }',
      ),
    ).toMatchObject({
      events: {
        totalCount: 30,
        nodes: [
          { sequence: 1, kind: 'PARENT_CHOSEN', child: null },
          { sequence: 2, child: { ordinal: 1 } },
        ],
      },
      last: { nodes: [{ sequence: 30 }] },
    })
  })

  test('gives its collective output in the order of the tasks, in pages', async () => {
    const read = async (first: number, after?: number) =>
      (
        await api.run<{ job: { collectiveOutput: { outputs: { index: number; output: unknown }[]; nextAfter: number | null } } }>(
          viewer,
          'query ($id: ID!, $first: Int!, $after: Int) { job(id: $id) { collectiveOutput(first: $first, after: $after) { outputs { index output } nextAfter } } }',
          { id: jobId, first, after },
        )
      ).data.job.collectiveOutput
    expect(await read(3)).toEqual({ outputs: [0, 1, 2].map((index) => ({ index, output: index * index })), nextAfter: 2 })
    expect(await read(2, 98)).toEqual({
      outputs: [
        { index: 99, output: 9801 },
        { index: 100, output: null },
      ],
      nextAfter: 100,
    })
    expect((await read(1_000, 2)).outputs).toHaveLength(247)
    expect(await read(1_000, 248)).toMatchObject({ nextAfter: null })
    expect(await job('collectiveOutput(first: 1001) { nextAfter }')).toMatchObject({
      errors: [{ extensions: { code: 'INVALID_INPUT', path: ['first'] } }],
    })
  })

  test('ends a page of the collective output where it gets too long, but never without a task', async () => {
    const long = 'x'.repeat(1_000_000)
    await api.db.write((orm) => [
      orm.insert(jobs).values({ ...storedJob('j-long'), tasksTotal: 10 }),
      orm.insert(jobTasks).values(
        Array.from({ length: 10 }, (_, index) => ({
          jobId: 'j-long',
          index,
          state: 'DONE' as const,
          component: 0,
          interactsWith: [],
          output: index === 8 ? long.repeat(9) : long,
        })),
      ),
    ])
    interface Page {
      outputs: object[]
      nextAfter: number | null
    }
    const query = 'query ($id: ID!, $after: Int) { job(id: $id) { collectiveOutput(after: $after) { outputs { output } nextAfter } } }'
    const read = async (after: number) =>
      (await api.run<{ job: { collectiveOutput: Page } }>(viewer, query, { id: idOf('Job', 'j-long'), after })).data.job.collectiveOutput
    const pages: number[] = []
    for (let after: number | null = -1; after !== null;) {
      const { outputs, nextAfter }: Page = await read(after)
      pages.push(outputs.length)
      after = nextAfter
    }
    expect(pages).toEqual([8, 1, 1])
  })

  test('allows a page of tasks with their inputs and outputs, and not a hundred of those', async () => {
    expect(await job('tasks { nodes { index state input output log } }')).not.toHaveProperty('errors')
    expect(
      await job('tasks(first: 100) { nodes { index state attempts kills error durationMs child { ordinal state } } }'),
    ).not.toHaveProperty('errors')
    expect(await job('tasks(first: 100) { nodes { input } }')).toMatchObject({ errors: [{ extensions: { code: 'QUERY_TOO_EXPENSIVE' } }] })
    expect(await job('collectiveOutput(first: 1000) { outputs { index state output } nextAfter }')).not.toHaveProperty('errors')
  })

  test('that waits says for what, one that failed says why, and afterwards whether the parent is unchanged', async () => {
    const hashes = { east: { ramSha256: 'aa', diskSha256: 'bb' } }
    await api.db.write((orm) => [
      orm.insert(jobs).values([
        {
          ...storedJob('j-failed'),
          state: 'FAILED',
          problemCode: 'TASK_FAILED',
          problemMessage: 'Task 3 failed.',
          problemRemedy: 'Mend it.',
          parentShaBefore: hashes,
          parentShaAfter: hashes,
        },
        {
          ...storedJob('j-changed'),
          state: 'SUCCEEDED',
          parentShaBefore: hashes,
          parentShaAfter: { east: { ramSha256: 'aa', diskSha256: 'cc' } },
        },
      ]),
    ])
    const query =
      '{ failed: job(id: "j-failed") { problem { __typename code message remedy } parentUnchanged } changed: job(id: "j-changed") { problem { code } parentUnchanged } }'
    const { data } = await api.run(
      viewer,
      query.replaceAll(/"(j-\w+)"/g, (_, id: string) => `"${idOf('Job', id)}"`),
    )
    expect(data).toEqual({
      failed: {
        problem: { __typename: 'JobError', code: 'TASK_FAILED', message: 'Task 3 failed.', remedy: 'Mend it.' },
        parentUnchanged: true,
      },
      changed: { problem: null, parentUnchanged: false },
    })
  })

  test('is listed newest first, by state', async () => {
    const { data } = await api.run(viewer, '{ jobs(states: [RUNNING]) { totalCount nodes { name } } }')
    expect(data).toEqual({ jobs: { totalCount: 1, nodes: [{ name: 'picture' }] } })
  })

  test('is watched from its present state to its end', async () => {
    const events = stream(
      'subscription ($id: ID!) { jobProgress(jobId: $id) { state taskCounts { state count } } }',
      { id: jobId },
      'jobProgress',
    )
    expect((await events.next()).value).toMatchObject({
      state: 'RUNNING',
      taskCounts: expect.arrayContaining([{ state: 'RUNNING', count: 1 }]),
    })
    await api.db.write(
      (orm) => [orm.update(jobTasks).set({ state: 'RUNNING' }).where(eq(jobTasks.index, 102))],
      [{ topic: 'JOB', subject: 'j1' }],
    )
    expect((await events.next()).value).toMatchObject({ taskCounts: expect.arrayContaining([{ state: 'RUNNING', count: 2 }]) })
    await api.db.write(
      (orm) => [orm.update(jobs).set({ state: 'SUCCEEDED', endedAt: new Date() }).where(eq(jobs.id, 'j1'))],
      [{ topic: 'JOB', subject: 'j1' }],
    )
    expect((await events.next()).value).toMatchObject({ state: 'SUCCEEDED' })
    expect(await events.next()).toMatchObject({ done: true })
    const unknown = stream('subscription { jobProgress(jobId: "x") { state } }', {}, 'jobProgress')
    await expect(unknown.next()).rejects.toThrow('INVALID_INPUT')
  })
})

const submitDocument =
  'mutation ($input: SubmitJobInput!) { submitJob(input: $input) { ... on SubmitJobSuccess { job { id name state tasksTotal componentCount } } ... on Error { code message path } } }'
const submitInput = (change: object = {}) => ({
  idempotencyKey: randomUUID(),
  name: 'job',
  requirements: { runtime: 'NODE' },
  program: 'export default async (input) => input',
  tasks: [{ input: 1 }],
  ...change,
})
const submit = async (change: object = {}, token = operator) =>
  (
    await api.run<{ submitJob: { code?: string; path?: string[]; message?: string; job?: { id: string; tasksTotal: number } } }>(
      token,
      submitDocument,
      { input: submitInput(change) },
    )
  ).data.submitJob

describe('submitting a job', () => {
  test("as GraphiQL's example does", async () => {
    const tab = exampleTabs.find(({ query }) => query.includes('mutation SubmitJob'))!
    const { data } = await api.run(operator, tab.query, JSON.parse(tab.variables) as object)
    expect(data).toMatchObject({
      submitJob: { __typename: 'SubmitJobSuccess', job: { state: 'PENDING', tasksTotal: 3, componentCount: 3 } },
    })
  })

  test('of 100,000 tasks is taken, and one more is refused', async () => {
    const tasks = Array.from({ length: 100_000 }, (_, index) => ({
      input: { x: index, y: 'some text' },
      interactsWith: [index - (index % 10)],
    }))
    expect(JSON.stringify(tasks).length).toBeGreaterThan(limits.bodyBytes)
    expect(await submit({ tasks })).toMatchObject({ job: { tasksTotal: 100_000, componentCount: 10_000 } })
    expect(await submit({ tasks: [...tasks, { input: 0 }] })).toMatchObject({ code: 'INVALID_INPUT', path: ['input', 'tasks'] })
  })

  test('may have 32 MiB of inputs; two that long at once are both taken', async () => {
    const tasks = Array.from({ length: 32 }, () => ({ input: 'x'.repeat(1_000_000) }))
    expect(await Promise.all([submit({ tasks }), submit({ tasks }), submit({ tasks })])).toMatchObject(
      Array.from({ length: 3 }, () => ({ job: { tasksTotal: 32 } })),
    )
  })

  test('with an input of 50 MiB is refused with the limit, and so is whatever else is longer than 1 MiB', async () => {
    const huge = await api.post(operator, submitDocument, { input: submitInput({ tasks: [{ input: 'x'.repeat(50 * 2 ** 20) }] }) })
    expect(huge.status).toBe(413)
    expect(await huge.text()).toContain(`${limits.jobBodyBytes}`)
    const variables = { input: submitInput({ tasks: [{ input: 'x'.repeat(2 ** 20) }] }) }
    const before = api.called.length
    for (const [token, document] of [
      [viewer, submitDocument],
      [operator, `${submitDocument} query Another { viewer { role } }`],
      [operator, submitDocument.replace('submitJob(', 'a: submitJob(input: $input) { __typename } submitJob(')],
      [operator, 'mutation ($input: PauseMigrationInput!) { pauseMigration(input: $input) { __typename } }'],
      [operator, '{ viewer { role } }'],
      [operator, '{'],
      [operator, 'fragment f on Job { name }'],
    ] as const) {
      const answer = await api.post(token, document, variables)
      expect([document, answer.status]).toEqual([document, 413])
    }
    expect(api.called.length).toBe(before)
    expect(await submit({ tasks: variables.input.tasks })).toMatchObject({ code: 'INVALID_INPUT', path: ['input', 'tasks', '0', 'input'] })
  })

  test.each<[string, object, string[]]>([
    ['no task', { tasks: [] }, ['tasks']],
    ['a task that interacts with an unknown one', { tasks: [{ interactsWith: [7] }] }, ['tasks', '0', 'interactsWith', '0']],
    ['a huge program', { program: 'x'.repeat(2 ** 20) }, ['program']],
    ['a name that turns text around', { name: '\u202Etxt' }, ['name']],
    ['a shared input called __proto__', { shared: [{ name: '__proto__', value: '' }] }, ['shared', '0', 'name']],
    ['an id of another type', { cloudIds: [idOf('Job', 'j1')] }, ['cloudIds', '0']],
    ['too many children', { children: 1_000 }, ['children']],
    ['an empty key', { idempotencyKey: '' }, ['idempotencyKey']],
  ])('with %s is refused with its place', async (_what, change, path) => {
    expect(await submit(change)).toMatchObject({ code: 'INVALID_INPUT', path: ['input', ...path] })
  })

  test('with an input that nests without end is refused, and is no fault of ours, wherever it stands', async () => {
    const deep = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`
    const send = async (variables: string) => {
      const answer = await fetch(api.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${operator}` },
        body: `{"query":${JSON.stringify(submitDocument)},"variables":${variables}}`,
      })
      return answer.text()
    }
    const input = JSON.stringify(submitInput({ tasks: [{ input: 'HERE' }] })).replace('"HERE"', deep(400_000))
    expect(await send(`{"input":${input}}`)).toContain('nests more than 100 levels')
    expect(await send(`{"input":{"unknown":${deep(400_000)}}}`)).toContain('errors')
    expect(await send(`{"input":${deep(400_000)}}`)).toContain('errors')
    expect(api.logged.filter(([level]) => level === 'error')).toEqual([])
  })

  test('is for operators, is in the audit trail without program and data, and cancelling it too', async () => {
    expect((await api.run(viewer, submitDocument, { input: submitInput() })).errors?.[0]?.extensions).toMatchObject({ code: 'FORBIDDEN' })
    const { job: submitted } = await submit({ program: 'a-secret-program', tasks: [{ input: 'a-secret-input' }] })
    const cancel =
      'mutation ($input: CancelJobInput!) { cancelJob(input: $input) { ... on CancelJobSuccess { job { desired state } } ... on Error { code } } }'
    const input = { idempotencyKey: randomUUID(), jobId: submitted!.id }
    expect((await api.run(operator, cancel, { input })).data).toEqual({ cancelJob: { job: { desired: 'CANCEL', state: 'PENDING' } } })
    expect((await api.run(operator, cancel, { input: { idempotencyKey: randomUUID(), jobId } })).data).toEqual({
      cancelJob: { code: 'NOT_ALLOWED_NOW' },
    })
    const entries = await api.db.select().from(auditEntries)
    expect(entries.filter(({ mutation, outcome }) => mutation === 'submitJob' && outcome === 'DONE').length).toBeGreaterThan(0)
    expect(entries.at(-2)).toMatchObject({ mutation: 'cancelJob', outcome: 'DONE', subjectType: 'Job' })
    expect(JSON.stringify(entries)).not.toContain('a-secret')
  })
})

function storedJob(id: string): typeof jobs.$inferInsert {
  const request = { requirements: {}, privileges: {} } as JobRequest
  return {
    id,
    name: id,
    state: 'SUCCEEDED',
    desired: 'RUN',
    request,
    engineId: 'engine',
    tasksTotal: 1,
    components: 1,
    createdAt: at,
    updatedAt: at,
    endedAt: at,
  }
}

/** What a subscription gives, until it completes. Throws what it is refused with. */
async function* stream(query: string, variables: object, field: string): AsyncGenerator {
  const answer = await api.post(viewer, query, variables, { accept: 'text/event-stream' })
  let text = ''
  for await (const chunk of answer.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk
    for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
      const event = text.slice(0, end)
      text = text.slice(end + 2)
      if (event.includes('event: complete')) return
      const data = /^data: (.+)$/m.exec(event)?.[1]
      if (data === undefined) continue
      const parsed = JSON.parse(data) as { data?: Record<string, unknown>; errors?: unknown[] }
      if (parsed.errors) throw new Error(JSON.stringify(parsed.errors))
      yield parsed.data![field]
    }
  }
}
