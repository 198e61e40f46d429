/** The group's workflow alone, driven by hand: every write of it failing before or after its effect, every look repeated, and two at once. */
import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Database } from '../../src/database/client.ts'
import { activeMigrations, migrations } from '../../src/database/tables/migration.ts'
import type { MigrationPhase, MigrationState } from '../../src/domain/migration.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import { readGroup } from '../../src/workflows/group-facts.ts'
import { createGroupOperations } from '../../src/workflows/group-operations.ts'
import { createGroupRunner, type GroupRunner } from '../../src/workflows/group-runner.ts'
import { createIdempotency } from '../../src/workflows/idempotency.ts'
import { createMigrationCheck } from '../../src/workflows/migration-check.ts'
import { createMigrationStart } from '../../src/workflows/migration-start.ts'
import type { NewGroup } from '../../src/workflows/operations.ts'
import { phaseLists } from '../../src/workflows/phase-lists.ts'
import { hostCount, member, storeMachines, temporaryDatabase } from './support/group-stage.ts'
import { artifacts, operator } from './support/migration-settings-for-tests.ts'

let stage: Awaited<ReturnType<typeof temporaryDatabase>>
let runners: GroupRunner[]
let submitted: string[]
let keys = 0

beforeEach(async () => {
  stage = await temporaryDatabase()
  await storeMachines(stage.database, 40)
  runners = []
  submitted = []
})
afterEach(async () => {
  await Promise.all(runners.map((runner) => runner.close()))
  await stage.remove()
})

const key = () => ({ idempotencyKey: `key-${keys++}` })
const connections = { connection: () => Promise.reject(new Error('There are no clouds here.')) }

function operationsOn(database: Database, cancelMs = 60_000) {
  return createGroupOperations({
    database,
    check: createMigrationCheck({ database, connections, artifacts }),
    idempotency: createIdempotency(database, sealKeyOf(Buffer.alloc(32, 7))),
    engineId: 'engine',
    submit: async () => {},
    cancelMs,
  })
}

/** One look a call: a slice of no time. */
function runnerOn(database: Database): GroupRunner {
  const check = createMigrationCheck({ database, connections, artifacts })
  const runner = createGroupRunner({
    database,
    start: createMigrationStart({ check, phaseLists, engineId: 'engine' }),
    submit: async (id) => void submitted.push(id),
    timings: { sliceMs: 0, pollMs: 0 },
  })
  runners.push(runner)
  return runner
}

async function started(group: Partial<NewGroup> & Pick<NewGroup, 'members'>): Promise<string> {
  const operations = operationsOn(stage.database)
  const { migrationGroupId } = await operations.createMigrationGroup(operator, {
    name: 'wave',
    cutoverPolicy: 'AUTOMATIC',
    ...group,
    ...key(),
  })
  await operations.startMigrationGroup(operator, { migrationGroupId, ...key() })
  return migrationGroupId
}

const read = async (id: string) => (await readGroup(stage.database, id))!
const states = async (id: string) => (await read(id)).members.map(({ state }) => state)

/** As the migration's own workflow would. */
async function becomes(id: string, name: string, state: MigrationState, phase: MigrationPhase = 'SYNC'): Promise<void> {
  const { migrationId } = (await read(id)).members.find((one) => one.name === name)!
  const over = state !== 'RUNNING'
  await stage.database.write((orm) => [
    orm.update(migrations).set({ state, phase }).where(eq(migrations.id, migrationId!)),
    ...(over ? [orm.delete(activeMigrations).where(eq(activeMigrations.migrationId, migrationId!))] : []),
  ])
}

/** Cancelled migrations end, as their workflows would see to. */
async function honourCancels(): Promise<void> {
  const wanted = await stage.database.select().from(migrations).where(eq(migrations.desired, 'CANCEL'))
  for (const { id } of wanted.filter(({ state }) => state === 'RUNNING' || state === 'PENDING'))
    await stage.database.write((orm) => [orm.update(migrations).set({ state: 'CANCELLED' }).where(eq(migrations.id, id))])
}

/** The story of a group: a is moved, b fails, c depends on a and is moved, d depends on b and is stopped, e on d and is never started. */
async function story(advance: (id: string) => Promise<string | null>): Promise<string> {
  const id = await started({ members: [member(4, [3]), member(0), member(1), member(2, [0]), member(3, [1])] })
  await advance(id)
  for (const name of ['m0', 'm1', 'm2', 'm3', 'm4']) await becomes(id, name, 'RUNNING')
  await advance(id)
  await becomes(id, 'm0', 'COMPLETED', 'CLEAN_UP')
  await becomes(id, 'm1', 'FAILED')
  await advance(id)
  await honourCancels()
  await becomes(id, 'm2', 'COMPLETED', 'CLEAN_UP')
  while ((await advance(id)) !== null) await honourCancels()
  return id
}

async function expectTold(id: string): Promise<void> {
  const { group, members } = await read(id)
  expect(group.state).toBe('FAILED')
  expect(Object.fromEntries(members.map(({ name, state }) => [name, state]))).toEqual({
    m0: 'COMPLETED',
    m1: 'FAILED',
    m2: 'COMPLETED',
    m3: 'STOPPED_BY_DEPENDENCY',
    m4: 'STOPPED_BY_DEPENDENCY',
  })
  const rows = await stage.database.select().from(migrations)
  expect(rows.map(({ sourceVirtualMachineId }) => sourceVirtualMachineId).toSorted()).toEqual(
    [0, 1, 2, 3, 4].map((index) => `east/vm-${index}`),
  )
  expect(new Set(submitted)).toEqual(new Set(rows.map(({ id: migrationId }) => migrationId)))
}

/** Fails the write with this number, counted from 1, before or after it had its effect. */
function failingAt(database: Database, number: number, when: 'before' | 'after') {
  let writes = 0
  const failing = async <T>(work: () => Promise<T>): Promise<T> => {
    const mine = ++writes
    if (mine === number && when === 'before') throw new Error('The disk is full.')
    const result = await work()
    if (mine === number) throw new Error('The answer got lost.')
    return result
  }
  return {
    database: {
      ...database,
      write: (...args: Parameters<Database['write']>) => failing(() => database.write(...args)),
      transaction: <T>(...args: Parameters<Database['transaction']>) => failing(() => database.transaction(...args) as Promise<T>),
    } as Database,
    writes: () => writes,
  }
}

/** As the engine does. */
const asked = (runner: GroupRunner) => async (id: string) => {
  for (;;) {
    try {
      return await runner.advance(id)
    } catch {
      // Asked again.
    }
  }
}

describe('a group comes to the same end', () => {
  test('undisturbed', async () => {
    await expectTold(await story(asked(runnerOn(stage.database))))
  })

  test.each(['before', 'after'] as const)('when any one of its writes fails %s its effect', async (when) => {
    const counted = failingAt(stage.database, 0, when)
    await story(asked(runnerOn(counted.database)))
    expect(counted.writes()).toBeGreaterThan(6)
    for (let number = 1; number <= counted.writes(); number++) {
      await stage.database.write((orm) => [orm.delete(migrations), orm.delete(activeMigrations)])
      submitted = []
      await expectTold(await story(asked(runnerOn(failingAt(stage.database, number, when).database))))
    }
  })

  test('when every look is repeated, by two control planes at once', async () => {
    const [one, other] = [runnerOn(stage.database), runnerOn(stage.database)]
    await expectTold(
      await story(async (id) => {
        const answers = await Promise.all([one.advance(id), other.advance(id), one.advance(id)])
        return answers.includes(null) ? null : 'WATCH'
      }),
    )
  })
})

test('a member that is retried at the moment of the end keeps its group from ending', async () => {
  const id = await started({ members: [member(0)] })
  await runnerOn(stage.database).advance(id)
  await becomes(id, 'm0', 'FAILED')
  const meanwhile = {
    ...stage.database,
    transaction: async <T>(...args: Parameters<Database['transaction']>) => {
      await becomes(id, 'm0', 'RUNNING')
      return stage.database.transaction(...args) as Promise<T>
    },
  } as Database
  expect(await runnerOn(meanwhile).advance(id)).toBe('WATCH')
  expect((await read(id)).group).toMatchObject({ state: 'RUNNING', endedAt: null })
})

test('a thousand members are stored and read in order, and started a few at a time', async () => {
  await storeMoreMachines(1000)
  const id = await started({
    members: Array.from({ length: 1000 }, (_, index) => member(index, index === 0 ? [] : [index - 1])).toReversed(),
  })
  const { members } = await read(id)
  expect(members.map(({ name }) => name)).toEqual(Array.from({ length: 1000 }, (_, index) => `m${index}`))
  const runner = runnerOn(stage.database)
  await runner.advance(id)
  await runner.advance(id)
  expect((await states(id)).every((state) => state === 'WAITING_FOR_SLOT')).toBe(true)
  expect(await stage.database.$count(migrations)).toBe(16)
})

async function storeMoreMachines(count: number): Promise<void> {
  await stage.remove()
  stage = await temporaryDatabase()
  await storeMachines(stage.database, count)
}

test('members of one host that wait for a slot keep those of another from nothing', async () => {
  await storeMoreMachines(60)
  const ofFirstHost = Array.from({ length: 20 }, (_, index) => index * hostCount)
  const id = await started({ members: [...ofFirstHost, 1, 2].map((index) => member(index)) })
  const runner = runnerOn(stage.database)
  await runner.advance(id)
  expect(await stage.database.$count(migrations)).toBe(16)
  for (const index of ofFirstHost.slice(0, 16)) await becomes(id, `m${index}`, 'RUNNING', 'ADMISSION')
  await runner.advance(id)
  const begun = (await read(id)).members.filter(({ migrationId }) => migrationId !== null).map(({ name }) => name)
  expect(begun.slice(16)).toEqual(['m1', 'm2'])
})

test('a member whose machine another migration moves says so, and is started once that has ended', async () => {
  const other = await started({ members: [member(0)] })
  await runnerOn(stage.database).advance(other)
  const id = await started({ members: [member(0), member(1)] })
  const runner = runnerOn(stage.database)
  await runner.advance(id)
  await runner.advance(id)
  const { members } = await read(id)
  expect(members[0]).toMatchObject({ state: 'WAITING_FOR_SLOT', migrationId: null, refusalCode: 'ALREADY_MIGRATING' })
  expect(members[1]).toMatchObject({ migrationId: expect.any(String) as string, refusalCode: null })
  await becomes(other, 'm0', 'CANCELLED')
  await runner.advance(id)
  expect((await read(id)).members[0]).toMatchObject({ migrationId: expect.any(String) as string, refusalCode: null, refusalMessage: null })
})

test('a cancel answers once what it reaches has stopped, and says what has not', async () => {
  const id = await started({ members: [member(0), member(1)] })
  const operations = operationsOn(stage.database, 100)
  await runnerOn(stage.database).advance(id)
  const request = { migrationGroupId: id, ...key() }
  await expect(operations.cancelMigrationGroup(operator, request)).rejects.toMatchObject({
    code: 'TIMED_OUT',
    retryable: true,
    message: expect.stringMatching(/2 of its migrations/) as string,
  })
  await honourCancels()
  expect(await operations.cancelMigrationGroup(operator, request)).toEqual({ migrationGroupId: id })
})

test('cancelling reaches members that were not started, and one past the point of no return goes on', async () => {
  const id = await started({ members: Array.from({ length: 20 }, (_, index) => member(index)) })
  const runner = runnerOn(stage.database)
  await runner.advance(id)
  await becomes(id, 'm0', 'RUNNING', 'COMMIT')
  const cancelled = operationsOn(stage.database).cancelMigrationGroup(operator, { migrationGroupId: id, ...key() })
  await expect.poll(async () => (await read(id)).group.desired, { timeout: 20_000 }).toBe('CANCEL')
  await honourCancels()
  await cancelled
  await runner.advance(id)
  const now = await states(id)
  expect(now.filter((state) => state === 'CANCELLED')).toHaveLength(19)
  expect(now[0]).toBe('RUNNING')
  await becomes(id, 'm0', 'COMPLETED', 'CLEAN_UP')
  expect(await runner.advance(id)).toBeNull()
  expect((await read(id)).group.state).toBe('CANCELLED')
})

test('nothing is started while it is paused', async () => {
  const id = await started({ members: Array.from({ length: 20 }, (_, index) => member(index)) })
  const runner = runnerOn(stage.database)
  await operationsOn(stage.database).pauseMigrationGroup(operator, { migrationGroupId: id, ...key() })
  await runner.advance(id)
  expect(await stage.database.$count(migrations)).toBe(0)
  expect((await read(id)).group.state).toBe('PAUSED')
})

describe('a group is refused before anything is stored', () => {
  const members = [member(0), member(1, [0])]
  test.each([
    ['INVALID_INPUT', ['input', 'members'], { members: [] }],
    ['INVALID_INPUT', ['input', 'name'], { name: 'wave\u202e' }],
    ['INVALID_INPUT', ['input', 'members', '1', 'name'], { members: [members[0]!, { ...members[1]!, name: '' }] }],
    ['INVALID_INPUT', ['input', 'cutoverAt'], { cutoverAt: new Date(0) }],
    ['NOT_FOUND', ['input', 'members', '0', 'sourceVirtualMachineId'], { members: [member(4711)] }],
    ['INVALID_INPUT', ['input', 'members', '1', 'sourceVirtualMachineId'], { members: [members[0]!, { ...members[0]!, name: 'again' }] }],
  ])('with %s at %j', async (code, path, change) => {
    const operations = operationsOn(stage.database)
    await expect(
      operations.createMigrationGroup(operator, { name: 'wave', cutoverPolicy: 'AUTOMATIC', members, ...change, ...key() }),
    ).rejects.toMatchObject({ code, path })
  })

  test('and one that was started is not started again', async () => {
    const id = await started({ members })
    await expect(operationsOn(stage.database).startMigrationGroup(operator, { migrationGroupId: id, ...key() })).rejects.toMatchObject({
      code: 'NOT_ALLOWED_NOW',
    })
  })

  test('but a repeated request answers as the first time', async () => {
    const operations = operationsOn(stage.database)
    const request = { name: 'wave', cutoverPolicy: 'MANUAL' as const, cutoverAt: new Date(Date.now() + 60_000), members, ...key() }
    expect(await operations.createMigrationGroup(operator, request)).toEqual(await operations.createMigrationGroup(operator, request))
  })
})
