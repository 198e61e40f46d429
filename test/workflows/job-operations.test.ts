import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { auditEntries } from '../../src/database/tables/audit.ts'
import { clouds } from '../../src/database/tables/cloud.ts'
import { jobPrograms, jobs, jobTasks } from '../../src/database/tables/job.ts'
import { parentVms } from '../../src/database/tables/parent-vm.ts'
import { networks } from '../../src/database/tables/topology.ts'
import type { JobRequest } from '../../src/domain/job.ts'
import { createJobOperations, type NewJob } from '../../src/workflows/job-operations.ts'
import { auditedDatabase, somebody, type AuditedDatabase } from './support/audited-database.ts'

let stage: AuditedDatabase
let submitted: string[]
let keys = 0

beforeEach(async () => {
  stage = await auditedDatabase()
  submitted = []
  const at = new Date()
  const cloud = { pluginId: 'fake', sealedOptions: '', capabilities: [], connectedAt: at }
  await stage.database.write((orm) => [
    orm.insert(clouds).values([
      { ...cloud, id: 'east', name: 'east', state: 'CONNECTED' },
      { ...cloud, id: 'gone', name: 'gone', state: 'DISCONNECTED' },
    ]),
    orm.insert(networks).values({ id: 'east/n', cloudId: 'east', providerId: 'n', name: 'n' }),
  ])
})
afterEach(() => stage.remove())

const operations = () =>
  createJobOperations({
    database: stage.database,
    idempotency: stage.idempotency,
    engineId: 'engine',
    submit: async (id) => void submitted.push(id),
  })

const request = (change: Partial<JobRequest> = {}): JobRequest => ({
  requirements: { parentVmId: null, runtime: 'NODE', runtimeVersion: '18', libraries: [{ name: '@scope/name', version: '4.17' }] },
  privileges: { networkId: null, cpuShare: 1, memoryBytes: null, diskBytes: 0, maxLifetimeMs: 60_000, peers: 'INTERACTING' },
  children: null,
  retries: 0,
  taskTimeoutMs: 1_000,
  onPoisonTask: 'FAIL',
  cloudIds: null,
  ...change,
})
const job = (change: Partial<NewJob> = {}): NewJob => ({
  name: 'picture',
  request: request(),
  program: 'export default async (input) => input',
  shared: [],
  tasks: [{ input: 1, interactsWith: [] }],
  ...change,
})
const submit = (change: Partial<NewJob> = {}, idempotencyKey = `key-${keys++}`) =>
  operations().submitJob(somebody, { ...job(change), idempotencyKey })
const stored = async (jobId: string) => (await stage.database.select().from(jobs).where(eq(jobs.id, jobId)))[0]!
const tasksOf = (jobId: string) => stage.database.select().from(jobTasks).where(eq(jobTasks.jobId, jobId)).orderBy(jobTasks.index)
const jobCount = async () => (await stage.database.select().from(jobs)).length

describe('submitting a job', () => {
  test('stores it with its program and its tasks to the letter, and hands it to the engine', async () => {
    const inputs = [
      null,
      '',
      'ünïcode 𝄞 \u0000 "\\',
      1e300,
      0.1,
      -0,
      [],
      {},
      { ['__proto__']: [1, { 'a b': null }] },
      [[['x']]],
      '\u2028',
      true,
    ]
    const { jobId } = await submit({
      tasks: inputs.map((input, index) => ({ input, interactsWith: index === 0 ? [3, 3, 0] : [] })),
      shared: [{ name: 'constructor', value: 'data' }],
    })
    expect(submitted).toEqual([jobId])
    expect(await stored(jobId)).toMatchObject({
      name: 'picture',
      state: 'PENDING',
      desired: 'RUN',
      engineId: 'engine',
      tasksTotal: 12,
      components: 11,
    })
    const tasks = await tasksOf(jobId)
    expect(tasks.map(({ input }) => JSON.stringify(input))).toEqual(inputs.map((input) => JSON.stringify(input)))
    expect(tasks[0]).toMatchObject({ state: 'PENDING', component: 0, interactsWith: [3, 0], attempts: 0, kills: 0, output: null })
    expect(tasks.map(({ component }) => component)).toEqual([0, 1, 2, 0, 3, 4, 5, 6, 7, 8, 9, 10])
    expect(await stage.database.select().from(jobPrograms)).toEqual([
      { jobId, source: 'export default async (input) => input', shared: { constructor: 'data' } },
    ])
  })

  test('twice with one key makes one job, and with another task is refused', async () => {
    const first = await submit({}, 'key')
    expect(await submit({}, 'key')).toEqual(first)
    await expect(submit({ tasks: [{ input: 2, interactsWith: [] }] }, 'key')).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_REUSED' })
    await expect(submit({ program: 'another' }, 'key')).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_REUSED' })
    expect(await jobCount()).toBe(1)
  })

  test('of 100,000 tasks that interact in pairs is taken; one more is refused', async () => {
    const tasks = Array.from({ length: 100_000 }, (_, index) => ({ input: { x: index, text: 'some text' }, interactsWith: [index ^ 1] }))
    const { jobId } = await submit({ tasks })
    expect(await stored(jobId)).toMatchObject({ tasksTotal: 100_000, components: 50_000 })
    const [last] = await stage.database.select().from(jobTasks).where(eq(jobTasks.index, 99_999))
    expect(last).toMatchObject({ component: 49_999, interactsWith: [99_998], input: { x: 99_999 } })
    await expect(submit({ tasks: [...tasks, tasks[0]!] })).rejects.toMatchObject({ code: 'INVALID_INPUT', path: ['input', 'tasks'] })
  })

  test('says a component that is larger than an even share', async () => {
    const tasks = Array.from({ length: 10 }, (_, index) => ({ input: index, interactsWith: index < 7 ? [0] : [] }))
    const { jobId } = await submit({ tasks, request: request({ children: 2 }) })
    expect((await stored(jobId)).imbalance).toContain('7 tasks, more than the 5')
  })

  test('takes a network with its cloud, and refuses another cloud beside it', async () => {
    const privileges = { ...request().privileges, networkId: 'east/n' }
    const { jobId } = await submit({ request: request({ privileges }) })
    expect((await stored(jobId)).request.cloudIds).toEqual(['east'])
  })

  test('keeps program and data out of the audit trail', async () => {
    const secret = 'a-secret-of-the-job'
    await submit({ tasks: [{ input: secret, interactsWith: [] }], program: secret, shared: [{ name: 'a', value: secret }] })
    const entries = await stage.database.select().from(auditEntries)
    expect(entries).toHaveLength(1)
    expect(entries[0]!.input).not.toContain(secret)
  })

  const mebibyte = 'x'.repeat(2 ** 20)
  const nested = (levels: number) => Array.from({ length: levels }).reduce<unknown>((inner) => [inner], 1)
  const privileges = request().privileges
  const one = (input: unknown, interactsWith: number[] = []) => ({ tasks: [{ input, interactsWith }] })
  test.each<[string, Partial<NewJob>, string[]]>([
    ['no task', { tasks: [] }, ['tasks']],
    ['an input of 1 MiB and two quotes', one(mebibyte), ['tasks', '0', 'input']],
    ['an input of 50 MiB', one(mebibyte.repeat(50)), ['tasks', '0', 'input']],
    ['33 MiB in all', { tasks: Array.from({ length: 40 }, () => ({ input: 'x'.repeat(1_000_000), interactsWith: [] })) }, ['tasks']],
    ['an input that nests 101 levels', one(nested(101)), ['tasks', '0', 'input']],
    ['an input that nests 100,000 levels', one(nested(100_000)), ['tasks', '0', 'input']],
    ['an unknown task', one(1, [1]), ['tasks', '0', 'interactsWith', '0']],
    ['a task before the first', one(1, [0, -1]), ['tasks', '0', 'interactsWith', '1']],
    ['half a task', one(1, [0.5]), ['tasks', '0', 'interactsWith', '0']],
    [
      'more in a component than a message holds',
      { tasks: Array.from({ length: 9 }, (_, index) => ({ input: 'x'.repeat(1_000_000), interactsWith: index === 0 ? [] : [index - 1] })) },
      ['tasks', '0', 'interactsWith'],
    ],
    ['no program', { program: ' \n' }, ['program']],
    ['a program of 1 MiB and two quotes', { program: mebibyte }, ['program']],
    ['a program that is longer as JSON', { program: '\u0001'.repeat(200_000) }, ['program']],
    ['shared inputs of 5 MiB', { shared: [{ name: 'a', value: mebibyte.repeat(5) }] }, ['shared']],
    ['a shared input called __proto__', { shared: [{ name: '__proto__', value: '' }] }, ['shared', '0', 'name']],
    [
      'a shared input twice',
      {
        shared: [
          { name: 'a', value: '' },
          { name: 'a', value: 'b' },
        ],
      },
      ['shared', '1', 'name'],
    ],
    ['a name that breaks the line', { name: 'a\nb' }, ['name']],
    ['a name that turns the text around', { name: '\u202Eevil' }, ['name']],
    ['no name', { name: '' }, ['name']],
    ['no child', { request: request({ children: 0 }) }, ['children']],
    ['257 children', { request: request({ children: 257 }) }, ['children']],
    ['eleven retries', { request: request({ retries: 11 }) }, ['retries']],
    ['no time', { request: request({ taskTimeoutMs: 0 }) }, ['taskTimeoutMs']],
    ['no core', { request: request({ privileges: { ...privileges, cpuShare: Number.NaN } }) }, ['privileges', 'cpuShare']],
    ['too little memory', { request: request({ privileges: { ...privileges, memoryBytes: 1 } }) }, ['privileges', 'memoryBytes']],
    ['no cloud', { request: request({ cloudIds: [] }) }, ['cloudIds']],
    [
      'a library that is a command',
      { request: request({ requirements: { ...request().requirements, libraries: [{ name: 'a; rm -rf /', version: null }] } }) },
      ['requirements', 'libraries', '0', 'name'],
    ],
    [
      'a version that is none',
      { request: request({ requirements: { ...request().requirements, runtimeVersion: 'latest' } }) },
      ['requirements', 'runtimeVersion'],
    ],
    [
      'another cloud than its network',
      { request: request({ privileges: { ...privileges, networkId: 'east/n' }, cloudIds: ['east', 'gone'] }) },
      ['cloudIds', '1'],
    ],
  ])('with %s is refused with its place', async (_what, change, path) => {
    const refused = submit(change)
    await expect(refused).rejects.toMatchObject({ path: ['input', ...path] })
    await expect(refused).rejects.toThrow(/^.{1,400}$/s)
    expect(await jobCount()).toBe(0)
    expect(submitted).toEqual([])
  })

  test.each<[string, JobRequest, string[]]>([
    [
      'parent VM',
      request({ requirements: { ...request().requirements, parentVmId: "'; drop table jobs; --" } }),
      ['requirements', 'parentVmId'],
    ],
    ['cloud', request({ cloudIds: ['east', 'nowhere'] }), ['cloudIds', '1']],
    ['cloud that is connected', request({ cloudIds: ['gone'] }), ['cloudIds', '0']],
    ['network', request({ privileges: { ...privileges, networkId: 'east/m' } }), ['privileges', 'networkId']],
  ])('with an unknown %s is refused', async (_what, refused, path) => {
    await expect(submit({ request: refused })).rejects.toMatchObject({ code: 'NOT_FOUND', path: ['input', ...path] })
  })

  test('of a parent VM that was deleted is refused', async () => {
    const at = new Date()
    const recipe = {} as typeof parentVms.$inferInsert.recipe
    await stage.database.write((orm) => [
      orm
        .insert(parentVms)
        .values({ id: 'p', name: 'p', recipe, recipeDigest: '', state: 'DELETED', engineId: 'engine', createdAt: at, updatedAt: at }),
    ])
    const requirements = { ...request().requirements, parentVmId: 'p' }
    await expect(submit({ request: request({ requirements }) })).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })
})

describe('cancelling a job', () => {
  test('writes what is wished, once; of one that ended or is unknown it is refused', async () => {
    const { jobId } = await submit()
    const cancel = (id: string, idempotencyKey: string) => operations().cancelJob(somebody, { idempotencyKey, jobId: id })
    expect(await cancel(jobId, 'cancel')).toEqual({ jobId })
    expect(await cancel(jobId, 'cancel')).toEqual({ jobId })
    expect(await stored(jobId)).toMatchObject({ state: 'PENDING', desired: 'CANCEL' })
    await stage.database.write((orm) => [orm.update(jobs).set({ state: 'SUCCEEDED' })])
    await expect(cancel(jobId, 'again')).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW', path: ['input', 'jobId'] })
    await expect(cancel('none', 'none')).rejects.toMatchObject({ code: 'NOT_FOUND', path: ['input', 'jobId'] })
  })
})
