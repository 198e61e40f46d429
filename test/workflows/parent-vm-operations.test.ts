import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { jobs } from '../../src/database/tables/job.ts'
import { parentVms } from '../../src/database/tables/parent-vm.ts'
import type { JobRequest } from '../../src/domain/job.ts'
import type { ParentRecipe, ParentState } from '../../src/domain/parent-vm.ts'
import { createParentVmOperations } from '../../src/workflows/parent-vm-operations.ts'
import { createParentVmWorkflow, parentVmRunKey, parseParentVmRun } from '../../src/workflows/parent-vm-workflow.ts'
import { createJobWorkflow } from '../../src/workflows/job-workflow.ts'
import { auditedDatabase, somebody, type AuditedDatabase } from './support/audited-database.ts'

let stage: AuditedDatabase
let submitted: string[]
let keys = 0

beforeEach(async () => {
  stage = await auditedDatabase()
  submitted = []
})
afterEach(() => stage.remove())

const operations = () =>
  createParentVmOperations({ idempotency: stage.idempotency, engineId: 'engine', submitParent: async (id) => void submitted.push(id) })

const recipe = (change: Partial<ParentRecipe> = {}): ParentRecipe => ({
  runtime: 'NODE',
  packages: ['nodejs', 'node-lodash'],
  imagePath: null,
  warmUp: 'globalThis.lodash = require("lodash")',
  memoryBytes: 256 * 2 ** 20,
  cpuCount: 1,
  privileges: { network: false, cpuShare: 1, diskBytes: 2 ** 30, maxLifetimeMs: 3_600_000 },
  ...change,
})
const register = (
  change: Partial<ParentRecipe> = {},
  { name = 'node', idempotencyKey = `key-${keys++}`, pausedChildren = null as number | null } = {},
) => operations().registerParentVm(somebody, { idempotencyKey, name, recipe: recipe(change), pausedChildren })
const rows = () => stage.database.select().from(parentVms)
const become = (state: ParentState) => stage.database.write((orm) => [orm.update(parentVms).set({ state, problem: 'a problem' })])
const remove = (parentVmId: string, idempotencyKey = `key-${keys++}`) =>
  operations().deleteParentVm(somebody, { idempotencyKey, parentVmId })

describe('registering a parent VM', () => {
  test('stores its recipe in its normal form, and hands it to the engine', async () => {
    const { parentVmId } = await register()
    expect(await rows()).toMatchObject([
      {
        id: parentVmId,
        name: 'node',
        state: 'REGISTERED',
        generation: 1,
        run: 1,
        engineId: 'engine',
        offers: null,
        recipe: { packages: ['node-lodash', 'nodejs'] },
      },
    ])
    expect(submitted).toEqual([parentVmId])
  })

  test('takes how many children are to stand ready, also without building it again, and leaves that as it is where nothing is said', async () => {
    await register({}, { pausedChildren: 4 })
    await become('READY')
    await register()
    expect(await rows()).toMatchObject([{ pausedChildren: 4, run: 1 }])
    await register({}, { pausedChildren: 0 })
    expect(await rows()).toMatchObject([{ pausedChildren: 0, run: 1, state: 'READY' }])
    for (const pausedChildren of [-1, 65])
      await expect(register({}, { pausedChildren })).rejects.toMatchObject({ code: 'INVALID_INPUT', path: ['input', 'pausedChildren'] })
  })

  test('that allows less than the default privileges is refused where children are to stand ready: no job could take them', async () => {
    const privileges = { ...recipe().privileges, cpuShare: 0.5 }
    const refused = { code: 'INVALID_INPUT', path: ['input', 'recipe', 'privileges', 'cpuShare'] }
    await expect(register({ privileges }, { pausedChildren: 1 })).rejects.toMatchObject(refused)
    await register({}, { pausedChildren: 1 })
    await expect(register({ privileges })).rejects.toMatchObject(refused)
    expect(await rows()).toMatchObject([{ generation: 1, pausedChildren: 1 }])
    await register({ privileges }, { pausedChildren: 0 })
    expect(await rows()).toMatchObject([{ generation: 2, pausedChildren: 0 }])
  })

  test('again with the same recipe changes nothing, in whatever order its packages are', async () => {
    const { parentVmId } = await register()
    await become('READY')
    expect(await register({ packages: ['node-lodash', 'nodejs', 'nodejs'] })).toEqual({ parentVmId })
    expect(await rows()).toMatchObject([{ state: 'READY', generation: 1, run: 1 }])
  })

  test('again with the same recipe after a failure builds it again', async () => {
    await register()
    await become('FAILED')
    await register()
    expect(await rows()).toMatchObject([{ state: 'REGISTERED', generation: 1, run: 2, problem: null }])
  })

  test('with another recipe makes its next generation', async () => {
    const { parentVmId } = await register()
    await become('READY')
    expect(await register({ warmUp: null })).toEqual({ parentVmId })
    expect(await rows()).toMatchObject([{ id: parentVmId, state: 'REGISTERED', generation: 2, run: 2, recipe: { warmUp: null } }])
    expect(submitted).toEqual([parentVmId, parentVmId])
  })

  test('twice with one key is done once; under a deleted one’s name it is another', async () => {
    const first = await register({}, { idempotencyKey: 'key' })
    expect(await register({}, { idempotencyKey: 'key' })).toEqual(first)
    await become('DELETING')
    await expect(register()).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW', path: ['input', 'name'] })
    await become('DELETED')
    expect(await register()).not.toEqual(first)
    expect(await rows()).toHaveLength(2)
  })

  test.each<[string, Partial<ParentRecipe>, string[]]>([
    ['neither packages nor an image', { packages: [] }, ['packages']],
    ['both', { imagePath: '/image' }, ['packages']],
    ['201 packages', { packages: Array.from({ length: 201 }, (_, index) => `p${index}`) }, ['packages']],
    ['a package that is an option', { packages: ['nodejs', '--allow-unauthenticated'] }, ['packages', '1']],
    ['a package that is a path', { packages: ['../../etc/passwd'] }, ['packages', '0']],
    ['an image at a relative path', { packages: [], imagePath: 'image.raw' }, ['imagePath']],
    ['an image whose path ends early', { packages: [], imagePath: '/image\0.raw' }, ['imagePath']],
    ['a long warm-up', { warmUp: 'x'.repeat(2 ** 20) }, ['warmUp']],
    ['too little memory', { memoryBytes: 2 ** 20 }, ['memoryBytes']],
    ['memory that is no whole number of MiB', { memoryBytes: 2 ** 28 + 1 }, ['memoryBytes']],
    ['no CPU', { cpuCount: 0 }, ['cpuCount']],
    ['no lifetime', { privileges: { ...recipe().privileges, maxLifetimeMs: 0 } }, ['privileges', 'maxLifetimeMs']],
  ])('with %s is refused with its place', async (_what, change, path) => {
    await expect(register(change)).rejects.toMatchObject({ code: 'INVALID_INPUT', path: ['input', 'recipe', ...path] })
    expect(await rows()).toEqual([])
    expect(submitted).toEqual([])
  })

  test.each(['', ' a', 'a\u0000', '\u202E', 'x'.repeat(101)])('under the name %j is refused', async (name) => {
    await expect(register({}, { name })).rejects.toMatchObject({ code: 'INVALID_INPUT', path: ['input', 'name'] })
  })
})

describe('deleting a parent VM', () => {
  test('is asked for once, and of a deleted one is a success', async () => {
    const { parentVmId } = await register()
    expect(await remove(parentVmId)).toEqual({ parentVmId })
    expect(await remove(parentVmId)).toEqual({ parentVmId })
    expect(await rows()).toMatchObject([{ state: 'DELETING', run: 2 }])
    await become('DELETED')
    expect(await remove(parentVmId)).toEqual({ parentVmId })
    expect(await rows()).toMatchObject([{ state: 'DELETED', run: 2 }])
  })

  test('is refused while a job uses it, and where there is none', async () => {
    const { parentVmId } = await register()
    const at = new Date()
    const request = {} as JobRequest
    await stage.database.write((orm) => [
      orm.insert(jobs).values({
        id: 'j',
        name: 'picture',
        state: 'RUNNING',
        desired: 'RUN',
        request,
        parentVmId,
        engineId: 'engine',
        tasksTotal: 1,
        components: 1,
        createdAt: at,
        updatedAt: at,
      }),
    ])
    await expect(remove(parentVmId)).rejects.toMatchObject({
      code: 'NOT_ALLOWED_NOW',
      message: expect.stringContaining('"picture" uses it'),
    })
    await stage.database.write((orm) => [orm.update(jobs).set({ state: 'FAILED' })])
    expect(await remove(parentVmId)).toEqual({ parentVmId })
    await expect(remove('none')).rejects.toMatchObject({ code: 'NOT_FOUND', path: ['input', 'parentVmId'] })
  })
})

test('a workflow asks its runner under the name that it gave last, until nothing is left to do', async () => {
  expect(parseParentVmRun(parentVmRunKey({ id: 'some-id', run: 3 }))).toEqual({ parentVmId: 'some-id', run: 3 })
  for (const create of [createJobWorkflow, createParentVmWorkflow]) {
    const answers = ['BUILD', 'BUILD', null]
    const asked: string[] = []
    const workflow = create({ advance: async (id) => (asked.push(id), answers.shift()!) })
    const named: string[] = []
    await workflow.run('some-id', { run: (name, action) => (named.push(name), action()), sleep: async () => {} })
    expect([asked.length, named]).toEqual([3, ['BEGIN', 'BUILD', 'BUILD']])
    expect(asked[0]).toBe('some-id')
  }
})
