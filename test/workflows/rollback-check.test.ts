/** A plain rollback looks at both sides before it changes anything: once the destination is off, there has to be a source to start. */
import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { activeMigrations, migrationEvents, migrations } from '../../src/database/tables/migration.ts'
import { ProviderError, type ProviderErrorCode } from '../../src/plugin-sdk/index.ts'
import { runKey } from '../../src/workflows/migration-workflow.ts'
import type { MigrationRow } from '../../src/workflows/migration-store.ts'
import type { CallHook } from './support/fake-clouds.ts'
import type { WorldState } from './support/fake-world.ts'
import { operator, setMigrationStage, type MigrationStage } from './support/migration-stage.ts'

let stage: MigrationStage
let hook: CallHook
let handedToEngine: string[]
let keys = 0
let id: string

beforeEach(async () => {
  hook = () => {}
  handedToEngine = []
  stage = await setMigrationStage({
    hook: (call, when) => hook(call, when),
    submit: async (migrationId) => void handedToEngine.push(runKey(await stage.store.read(migrationId))),
  })
  id = await stage.start()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
})
afterEach(() => stage.close())

const rollBack = (idempotencyKey = `rollback-${keys++}`) =>
  stage.operations.rollbackMigration(operator, { idempotencyKey, migrationId: id })
const failing = (call: string, code: ProviderErrorCode) => (made: string) => {
  if (made === call) throw new ProviderError(code, 'No such luck.', { retryable: code === 'UNREACHABLE', remedy: 'None.' })
}
const destinationId = () => Object.keys(stage.world.look().machines)[0]!

async function expectStillServedByDestination(): Promise<void> {
  const { machines, violations, calls } = stage.world.look()
  expect(violations).toEqual([])
  expect(Object.values(machines)).toEqual([expect.objectContaining({ power: 'RUNNING', exposed: true })])
  expect(calls.filter((call) => ['west.arm', 'west.stop', 'west.fence', 'east.release', 'east.start'].includes(call))).toEqual([])
  expect(await stage.store.read(id)).toMatchObject({ state: 'COMPLETED', copyKept: false })
  expect(await stage.isLocked()).toBe(false)
}

/** What is wrong with the sides, and with what the rollback is refused. */
const obstacles: [string, { calls?: [string, ProviderErrorCode]; world?: (state: WorldState) => void }, object][] = [
  ['the source is gone', { calls: ['east.describe', 'NOT_FOUND'] }, { code: 'NOT_FOUND', retryable: false }],
  ["the source's cloud says nothing", { calls: ['east.describe', 'UNREACHABLE'] }, { code: 'CLOUD_UNREACHABLE', retryable: true }],
  ['the source is not off', { world: ({ source }) => void (source.power = 'SUSPENDED') }, { code: 'CONFLICT' }],
  ["somebody took the source's fence away", { world: ({ source }) => void (source.fence = null) }, { code: 'CONFLICT' }],
  [
    "the source is under another's fence",
    { world: ({ source }) => void (source.fence = { id: 'other.1.1', closed: true }) },
    { code: 'CONFLICT' },
  ],
  ["the destination's cloud says nothing", { calls: ['west.describe', 'UNREACHABLE'] }, { code: 'CLOUD_UNREACHABLE', retryable: true }],
  [
    "the destination is under another's fence",
    { world: ({ machines }) => void (machines[Object.keys(machines)[0]!]!.fence = { id: 'other.1.1', closed: false }) },
    { code: 'CONFLICT' },
  ],
]

function standInTheWay({ calls, world }: (typeof obstacles)[number][1]): void {
  if (calls) hook = failing(...calls)
  if (world) stage.world.change('by somebody', world)
}

describe.each(obstacles)('where %s,', (_, obstacle, refusal) => {
  test('nothing is changed, with a reason', async () => {
    standInTheWay(obstacle)
    await expect(rollBack()).rejects.toMatchObject({
      ...refusal,
      message: expect.stringMatching(/Nothing was changed/) as string,
      path: ['input', 'migrationId'],
    })
    hook = () => {}
    await expectStillServedByDestination()
  })

  test('and it came to be so after the request, it is completed as before, with the reason to be read', async () => {
    await rollBack()
    standInTheWay(obstacle)
    const { code } = refusal as { code: string }
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', endState: null, errorCode: code })
    hook = () => {}
    await expectStillServedByDestination()
  })
})

test('after one that was refused another one goes through, as a run and with a beginning of its own', async () => {
  await rollBack('first')
  hook = failing('east.describe', 'NOT_FOUND')
  await stage.drive(stage.runner(), id)
  hook = () => {}
  // The engine takes a key once, and what is repeated after the end is handed to it too.
  await rollBack('first')
  const taken = [...handedToEngine]
  await rollBack('second')
  expect(taken).not.toContain(handedToEngine.at(-1))
  const beganAt = Date.now()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK', errorCode: null })
  expect(stage.world.look().source).toMatchObject({ power: 'RUNNING', fence: null })
  const events = await stage.database.select().from(migrationEvents).where(eq(migrationEvents.phase, 'STOP_DESTINATION'))
  expect(events.filter(({ kind }) => kind === 'PHASE_STARTED')).toHaveLength(2)
  const step = (await stage.store.steps(await stage.store.read(id))).find(({ phase }) => phase === 'STOP_DESTINATION')
  expect(step?.startedAt.getTime()).toBeGreaterThanOrEqual(beganAt)
})

test.each(['UNREACHABLE', 'INTERNAL'] as const)('a cloud that fails once (%s) before it has begun does not end it', async (code) => {
  await rollBack()
  let failed = 0
  hook = (call, when) => {
    if (call === 'east.describe' && when === 'before' && failed++ === 0) failing(call, code)(call)
  }
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK', problem: null })
  expect(failed).toBeGreaterThan(1)
})

test('once it has begun it goes on, whatever is said of the source meanwhile', async () => {
  await rollBack()
  let broken = 0
  hook = (call, when) => {
    if (call === 'west.fence' && when === 'before' && broken++ === 0) failing(call, 'UNREACHABLE')(call)
    if (broken === 1) failing('east.describe', 'NOT_FOUND')(call)
  }
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK' })
  expect(broken).toBe(2)
})

test('a destination that is gone from its cloud needs no shutdown, and leaves no copy', async () => {
  stage.world.change('deleted by somebody', ({ machines }) => void delete machines[Object.keys(machines)[0]!])
  await rollBack()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK', copyKept: false })
  const { source, violations } = stage.world.look()
  expect(source).toMatchObject({ power: 'RUNNING', fence: null })
  expect(violations).toEqual([])
})

describe('a destination that is gone together with the records of its migration was not looked for where it went to:', () => {
  const elsewhere = (state: WorldState) => {
    state.machines = {}
    state.records = {}
  }

  test('the rollback is refused', async () => {
    stage.world.change('another site answers', elsewhere)
    await expect(rollBack()).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringMatching(/not the site/) as string })
  })

  test('one that has begun waits for the site to be there again', async () => {
    await rollBack()
    let left: WorldState | null = null
    let isBack = false
    hook = async (call, when) => {
      if (call === 'west.arm' && when === 'after' && !left) {
        left = stage.world.look()
        stage.world.change('another site answers', elsewhere)
      }
      if (!left || isBack) return
      isBack = /not the site/.test((await stage.store.read(id)).problem ?? '')
      const { machines, records } = left
      if (isBack) stage.world.change('mounted again', (state) => Object.assign(state, { machines, records }))
    }
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK', copyKept: true })
    expect(isBack).toBe(true)
    expect(stage.world.look().violations).toEqual([])
  })
})

test('a source that was left suspended under its fence is retired by a reconciliation first', async () => {
  stage.world.change('given up while suspended', ({ source }) => void (source.power = 'SUSPENDED'))
  await expect(rollBack()).rejects.toMatchObject({ code: 'CONFLICT', remedy: expect.stringMatching(/reconcileMigrations/) as string })
})

test('a destination that its cloud knows under another id is not taken for gone', async () => {
  stage.world.change('made anew by somebody', ({ machines }) => {
    machines['other'] = machines[destinationId()]!
    delete machines[destinationId()]
  })
  await expect(rollBack()).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringMatching(/other/) as string })
})

test('a fence that a reconciliation closed in the name of the attempt is lifted too', async () => {
  stage.world.change('reconciled', ({ source }) => void (source.fence = { id: `${id}.1`, closed: true }))
  await rollBack()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK' })
  expect(stage.world.look().source).toMatchObject({ power: 'RUNNING', fence: null })
})

describe('of the older of two moves', () => {
  /** From west on to another place, by a row of its own or one that is retried. */
  const onward = async (change: Partial<MigrationRow>) => {
    const first = await stage.store.read(id)
    const row = { ...first, id: 'later', sourceVirtualMachineId: first.destinationVirtualMachineId!, sourceCloudId: 'west', ...change }
    await stage.database.write((orm) => [orm.insert(migrations).values(row)])
  }
  const change = (migrationId: string, patch: Partial<MigrationRow>) =>
    stage.database.write((orm) => [
      orm.update(migrations).set(patch).where(eq(migrations.id, migrationId)),
      orm.delete(activeMigrations).where(eq(activeMigrations.migrationId, migrationId)),
    ])
  const later = async (patch: Partial<MigrationRow> = {}) => onward({ startOrder: (await stage.store.read(id)).startOrder + 1, ...patch })

  test('is refused until the later one is rolled back', async () => {
    await later()
    await expect(rollBack()).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW', message: expect.stringMatching(/later/) as string })
    await expectStillServedByDestination()
    await change('later', { state: 'ROLLED_BACK' })
    await rollBack()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK' })
  })

  test('is refused where the later one began at another row of the same machine', async () => {
    await later({ sourceVirtualMachineId: `east/vm-1` })
    await expect(rollBack()).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW' })
  })

  test('is refused where the machine went on and was carried back, with the remedy to carry that back in turn', async () => {
    const { destinationVirtualMachineId } = await stage.store.read(id)
    // The topology no longer has what it was carried back from.
    await later({ rollsBackMigrationId: 'another', sourceVirtualMachineId: 'south/gone', destinationVirtualMachineId })
    await expect(rollBack()).rejects.toMatchObject({
      code: 'NOT_ALLOWED_NOW',
      message: expect.stringMatching(/later/) as string,
      retryable: false,
      remedy: expect.stringMatching(/carryWritesBack/) as string,
    })
    await expectStillServedByDestination()
  })

  test('is none where the other one was before it', async () => {
    await onward({ startOrder: 0 })
    await rollBack()
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK' })
  })

  test('is refused also where the clock was set back before the later one, and what was left in between is gone', async () => {
    const { createdAt, destinationVirtualMachineId } = await stage.store.read(id)
    vi.useFakeTimers({ toFake: ['Date'], now: createdAt.getTime() - 3_600_000 })
    onTestFinished(() => void vi.useRealTimers())
    const next = await stage.start({ sourceVirtualMachineId: destinationVirtualMachineId!, destinationCloudId: 'east', networkMap: [] })
    vi.useRealTimers()
    await change(next, { state: 'COMPLETED' })
    stage.world.change('deleted by its owner', ({ machines }) => void delete machines[destinationId()])
    await expect(rollBack()).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW', message: expect.stringContaining(next) as string })
    expect(stage.world.look().source.power).toBe('STOPPED')
  })

  test('is refused also where the later one had failed before it, and was retried after it', async () => {
    const { createdAt } = await stage.store.read(id)
    await onward({ startOrder: 0, createdAt: new Date(createdAt.getTime() - 1), state: 'FAILED' })
    await stage.operations.retryMigration(operator, { idempotencyKey: 'retry', migrationId: 'later' })
    await change('later', { state: 'COMPLETED' })
    await expect(rollBack()).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW' })
    await expectStillServedByDestination()
  })
})
