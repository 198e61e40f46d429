/** A machine came from west to east, and left one that is off; now it is rolled back with what it has written since. The stage's source is where it serves, in east. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { migrations } from '../../src/database/tables/migration.ts'
import { eq } from 'drizzle-orm'
import { recordKey } from '../../src/domain/migration-record.ts'
import type { MigrationPhase } from '../../src/domain/migration.ts'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import type { MigrationRow } from '../../src/workflows/migration-store.ts'
import { phaseLists, type PhaseLists } from '../../src/workflows/phase-lists.ts'
import type { Phase } from '../../src/workflows/phase.ts'
import type { PhaseRunner } from '../../src/workflows/phase-runner.ts'
import { sourceMachineId } from './support/fake-clouds.ts'
import { migrationRequest } from './support/migration-settings-for-tests.ts'
import { leftMachine, leftMachineId, operator, setMigrationStage, type MigrationStage } from './support/migration-stage.ts'

const list = phaseLists[3001]!
const names = list.map(({ name }) => name)
const beforeCommit = names.slice(0, names.indexOf('COMMIT'))
const moved = 'moved'
const east = `east/${sourceMachineId}`
const west = `west/${leftMachineId}`

let stage: MigrationStage
let keys = 0

beforeEach(async () => {
  stage = await setMigrationStage({ leftAtWest: true })
  const now = new Date()
  const row: typeof migrations.$inferInsert = {
    id: moved,
    attempt: 1,
    phaseListVersion: 2,
    engineId: 'none',
    state: 'COMPLETED',
    phase: 'CLEAN_UP',
    desired: 'RUN',
    sourceCloudId: 'west',
    destinationCloudId: 'east',
    sourceVirtualMachineId: west,
    destinationVirtualMachineId: east,
    cutoverPolicy: 'MANUAL',
    permittedDowntimeMs: 60_000,
    findings: [],
    createdAt: now,
    updatedAt: now,
    exposedAt: now,
    request: migrationRequest({ sourceVirtualMachineId: west, destinationCloudId: 'east', networkMap: [] }),
  }
  await stage.database.write((orm) => [orm.insert(migrations).values(row)])
})
afterEach(() => stage.close())

const of = (migrationId: string) => ({ idempotencyKey: `key-${keys++}`, migrationId })
const rollBack = async () => (await stage.operations.rollbackMigration(operator, { ...of(moved), carryWritesBack: true })).migrationId
const change = (patch: Partial<MigrationRow>) =>
  stage.database.write((orm) => [orm.update(migrations).set(patch).where(eq(migrations.id, moved))])

function changed(name: MigrationPhase, patch: (phase: Phase) => Partial<Phase>): PhaseLists {
  return { ...phaseLists, 3001: list.map((phase) => (phase.name === name ? { ...phase, ...patch(phase) } : phase)) }
}

async function expectCarriedBack(): Promise<void> {
  const { source, machines, records, violations, content } = stage.world.look()
  expect(violations).toEqual([])
  expect(source).toMatchObject({ power: 'STOPPED', fence: { closed: true } })
  expect(machines).toEqual({ [leftMachineId]: { ...leftMachine, power: 'RUNNING', sealed: true, content } })
  expect(records[recordKey({ migrationId: moved, attempt: 1, kind: 'rolled-back' })]).toBeDefined()
  expect(await stage.store.read(moved)).toMatchObject({ state: 'ROLLED_BACK', copyKept: true })
  expect(await stage.isLocked()).toBe(false)
}

async function expectAsItWas(): Promise<void> {
  const { source, machines, records, violations } = stage.world.look()
  expect(violations).toEqual([])
  expect(source).toEqual({ power: 'RUNNING', fence: null, agentInstance: null, freeze: null })
  expect(machines).toEqual({ [leftMachineId]: leftMachine })
  expect(Object.keys(records).filter((name) => name.endsWith('.rolled-back'))).toEqual([])
  expect(await stage.store.read(moved)).toMatchObject({ state: 'COMPLETED', copyKept: false })
  expect(await stage.isLocked()).toBe(false)
}

test('the source that was left runs again, with all that was written since; what is left then is a copy to discard', async () => {
  const id = await rollBack()
  expect(id).not.toBe(moved)
  const ended = await stage.drive(stage.runner(), id)
  expect(ended).toMatchObject({ state: 'COMPLETED', rollsBackMigrationId: moved, destinationVirtualMachineId: west, copyKept: false })
  await expectCarriedBack()
  expect(stage.world.look().records[recordKey({ migrationId: id, attempt: 1, kind: 'started' })]?.content).toMatchObject({
    rollsBack: moved,
  })
})

test('it does so also where the machine had gone on from the destination, and was carried back there', async () => {
  const first = await stage.store.read(moved)
  const carriedBack = {
    ...first,
    id: 'later',
    sourceVirtualMachineId: 'south/left',
    sourceCloudId: 'south',
    rollsBackMigrationId: 'onward',
  }
  await stage.database.write((orm) => [orm.insert(migrations).values({ ...carriedBack, startOrder: first.startOrder + 1 })])
  expect(await stage.drive(stage.runner(), await rollBack())).toMatchObject({ state: 'COMPLETED' })
  await expectCarriedBack()
})

describe('a failure that stays', () => {
  test.each(beforeCommit)('before anything in %s leaves the destination in service, and the source as it was left', async (name) => {
    const broken = async () => {
      throw new ProviderError('INTERNAL', 'It broke.', { retryable: false, remedy: 'None.' })
    }
    const id = await rollBack()
    expect(await stage.drive(stage.runner(changed(name, () => ({ do: broken }))), id)).toMatchObject({ state: 'FAILED', copyKept: false })
    await expectAsItWas()
  })

  test.each(beforeCommit)('after all of %s leaves the destination in service, and the source as it was left', async (name) => {
    const lists = changed(name, (phase) => ({
      do: async (context) => {
        await phase.do(context)
        throw new ProviderError('INTERNAL', 'It broke.', { retryable: false, remedy: 'None.' })
      },
    }))
    expect(await stage.drive(stage.runner(lists), await rollBack())).toMatchObject({ state: 'FAILED' })
    await expectAsItWas()
  })
})

test.each(names)('a crash of the control plane at the end of %s only repeats it', async (name) => {
  const id = await rollBack()
  const lists = changed(name, (phase) => ({
    do: async (context) => {
      await phase.do(context)
      void first.close()
      throw new Error('crashed')
    },
  }))
  const first: PhaseRunner = stage.runner(lists)
  await expect(stage.drive(first, id)).rejects.toThrow('The control plane is ending')
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED' })
  await expectCarriedBack()
  const { calls } = stage.world.look()
  expect(calls.filter((call) => call === 'west.adopt.start').length).toBe(name === 'INSTANTIATE_DESTINATION' ? 2 : 1)
})

test.each(beforeCommit)('a cancel in %s leaves the destination in service, and the source as it was left', async (name) => {
  const reached = Promise.withResolvers<void>()
  const lists = changed(name, (phase) => ({
    do: async (context) => {
      reached.resolve()
      await new Promise<never>((_resolve, reject) => context.signal.addEventListener('abort', () => reject(context.signal.reason as Error)))
      return phase.do(context)
    },
  }))
  const id = await rollBack()
  const end = stage.drive(stage.runner(lists), id)
  await reached.promise
  await stage.operations.cancelMigration(operator, of(id))
  expect(await end).toMatchObject({ state: 'CANCELLED' })
  await expectAsItWas()
})

test('one that failed is retried', async () => {
  stage.health.status = 500
  const id = await rollBack()
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'FAILED', errorCode: 'HEALTH_CHECK_FAILED' })
  await expectAsItWas()
  stage.health.status = 200
  await stage.operations.retryMigration(operator, of(id))
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', attempt: 2, phaseListVersion: 3001 })
  await expectCarriedBack()
})

describe('nothing is changed, with a reason,', () => {
  test('where one is under way, or the first migration was rolled back otherwise', async () => {
    stage.health.status = 500
    const id = await rollBack()
    await expect(rollBack()).rejects.toMatchObject({ code: 'ALREADY_MIGRATING' })
    await expect(stage.operations.rollbackMigration(operator, of(moved))).rejects.toMatchObject({ code: 'ALREADY_MIGRATING' })
    await stage.drive(stage.runner(), id)
    await change({ state: 'ROLLED_BACK' })
    await expect(rollBack()).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW' })
    await expect(stage.operations.retryMigration(operator, of(id))).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW' })
    expect(stage.world.look().machines).toEqual({ [leftMachineId]: leftMachine })
  })

  test('where it has carried writes back itself', async () => {
    const id = await rollBack()
    await stage.drive(stage.runner(), id)
    const again = stage.operations.rollbackMigration(operator, of(id))
    await expect(again).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW' })
    await expectCarriedBack()
  })

  test('where the guest got other addresses, or the source that was left runs', async () => {
    const request = migrationRequest({ addressing: [{ mac: '52:54:00:00:00:01', mode: 'DHCP' }] })
    const { request: before } = await stage.store.read(moved)
    await change({ request })
    await expect(rollBack()).rejects.toMatchObject({ code: 'UNSUPPORTED' })
    await change({ request: before })
    stage.world.change(
      'started by hand',
      ({ machines }) => void (machines[leftMachineId] = { ...leftMachine, exposed: false, power: 'RUNNING' }),
    )
    await expect(rollBack()).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(await stage.isLocked()).toBe(false)
  })

  test('where a later migration moved the machine on', async () => {
    const first = await stage.store.read(moved)
    const later = { ...first, id: 'later', sourceVirtualMachineId: east, startOrder: first.startOrder + 1 }
    await stage.database.write((orm) => [orm.insert(migrations).values(later)])
    await expect(rollBack()).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW', message: expect.stringMatching(/later/) as string })
    expect(await stage.isLocked()).toBe(false)
  })

  test('where the provider of the source adopts no machines', async () => {
    await change({ sourceCloudId: 'east', sourceVirtualMachineId: east })
    await expect(rollBack()).rejects.toMatchObject({ code: 'UNSUPPORTED' })
    expect(await stage.isLocked()).toBe(false)
  })
})
