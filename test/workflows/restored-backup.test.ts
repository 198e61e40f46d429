/** A database that was put back from a backup is older than its clouds: what it knows of a switchover was true once. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { activeMigrations, migrations, migrationSteps, rounds } from '../../src/database/tables/migration.ts'
import type { MigrationPhase } from '../../src/domain/migration.ts'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { runKey } from '../../src/workflows/migration-workflow.ts'
import { phaseLists, type PhaseLists } from '../../src/workflows/phase-lists.ts'
import type { MigrationRow } from '../../src/workflows/migration-store.ts'
import { sourceUniqueId } from './support/fake-world.ts'
import { expectMoved, operator, setMigrationStage, type MigrationStage } from './support/migration-stage.ts'

const list = phaseLists[2]!
const phasesFrom = (name: MigrationPhase) => list.slice(list.findIndex((phase) => phase.name === name)).map((phase) => phase.name)
const tables = [activeMigrations, rounds, migrationSteps, migrations]

let stage: MigrationStage
let hook: (call: string) => void
let backup: unknown[][] = []
let keys = 0

beforeEach(async () => {
  hook = () => {}
  backup = []
  stage = await setMigrationStage({ hook: (call) => hook(call), timings: { lostMs: 500 } })
})
afterEach(() => stage.close())

/** A backup is made once, as the phase begins. */
function backedUpIn(name: MigrationPhase): PhaseLists {
  return {
    2: list.map((phase) => ({
      ...phase,
      do: async (context) => {
        if (phase.name === name && backup.length === 0)
          backup = await Promise.all(tables.map((table) => stage.database.select().from(table)))
        return phase.do(context)
      },
    })),
  }
}

async function putBack(): Promise<void> {
  await stage.database.write((orm) => [
    ...tables.map((table) => orm.delete(table)),
    ...tables.flatMap((table, index) => backup[index]!.map((row) => orm.insert(table).values(row as never))).toReversed(),
  ])
}

async function moved(name: MigrationPhase): Promise<string> {
  const id = await stage.start()
  expect(await stage.drive(stage.runner(backedUpIn(name)), id)).toMatchObject({ state: 'COMPLETED' })
  return id
}

async function afterPuttingBack(id: string): Promise<MigrationRow> {
  await putBack()
  return stage.drive(stage.runner(), id)
}

const machine = () => stage.world.look().machines[sourceUniqueId]!

describe('a migration that was committed since the backup', () => {
  test.each(phasesFrom('CONNECT_AGENTS'))('in %s is found committed at its destination, and the source is not started', async (name) => {
    const id = await moved(name)
    expect(await afterPuttingBack(id)).toMatchObject({ state: 'COMPLETED', errorCode: null, direction: 'FORWARD' })
    await expectMoved(stage)
  })

  test('was exposed when its record says so, not when its rows were brought up to date', async () => {
    const id = await moved('HEALTH_CHECK')
    const { exposedAt } = await stage.store.read(id)
    expect(await afterPuttingBack(id)).toMatchObject({ exposedAt, downtime: null })
  })

  test('goes on forward though it is cancelled before anybody knows', async () => {
    const id = await moved('SYNC')
    await putBack()
    await stage.database.write((orm) => [orm.update(migrations).set({ desired: 'CANCEL' })])
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', desired: 'RUN' })
    await expectMoved(stage)
  })

  test('waits, and leaves the source as it is, as long as the destination does not answer', async () => {
    const id = await moved('SUSPEND_SOURCE')
    await putBack()
    let asked = 0
    let away = true
    hook = (call) => {
      if (!away || !call.startsWith('west.')) return
      asked++
      throw new ProviderError('UNREACHABLE', 'No answer.', { retryable: true, remedy: 'Wait.' })
    }
    const before = stage.world.look().calls.length
    const ended = stage.drive(stage.runner(), id)
    await vi.waitFor(() => expect(asked).toBeGreaterThan(3), 20_000)
    expect((await stage.store.read(id)).problem).toMatch(/^Before the migration goes on, its destination has to say .*No answer\.$/)
    expect(
      stage.world
        .look()
        .calls.slice(before)
        .filter((call) => call.startsWith('east.') || call.startsWith('SOURCE.')),
    ).toEqual([])
    away = false
    expect(await ended).toMatchObject({ state: 'COMPLETED', problem: null })
    await expectMoved(stage)
  })
})

describe('a migration whose machine has gone on without it since the backup', () => {
  test.each(phasesFrom('ARM_FENCE'))('in %s, by a rollback, ends without touching either site', async (name) => {
    const id = await moved(name)
    await stage.operations.rollbackMigration(operator, { idempotencyKey: `after-${keys++}`, migrationId: id })
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'ROLLED_BACK' })
    const before = { calls: stage.world.look().calls.filter((call) => call !== 'west.list'), machine: machine() }
    expect(await afterPuttingBack(id)).toMatchObject({ state: 'FAILED', errorCode: 'CONFLICT', copyKept: false })
    expect({ calls: stage.world.look().calls.filter((call) => call !== 'west.list'), machine: machine() }).toEqual(before)
    expect(stage.world.look().source.power).toBe('RUNNING')
    expect(await stage.isLocked()).toBe(false)
  })

  test.each(phasesFrom('INSTALL_AGENTS').slice(0, -5))('in %s, by a later attempt, leaves what that one moved alone', async (name) => {
    stage.health.status = 500
    const id = await stage.start()
    const ended = await stage.drive(stage.runner(backedUpIn(name)), id)
    expect(ended).toMatchObject({ state: 'FAILED', copyKept: true })
    stage.health.status = 200
    await stage.operations.retryMigration(operator, { idempotencyKey: `after-${keys++}`, migrationId: id })
    expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'COMPLETED', attempt: 2 })
    expect(await afterPuttingBack(id)).toMatchObject({ state: 'FAILED', errorCode: 'CONFLICT', copyKept: false })
    await expectMoved(stage)
  })
})

test('a commit whose control plane was killed before its hooks were sent is repeated, and they are', async () => {
  const id = await stage.start()
  let commits = 0
  const counted: PhaseLists = {
    2: list.map((phase) => ({
      ...phase,
      do: async (context) => {
        const outcome = await phase.do(context)
        if (phase.name !== 'COMMIT' || ++commits > 1) return outcome
        void first.close()
        throw new Error('killed')
      },
    })),
  }
  const first = stage.runner(counted)
  await expect(stage.drive(first, id)).rejects.toThrow('The control plane is ending')
  expect(await stage.drive(stage.runner(counted), id)).toMatchObject({ state: 'COMPLETED' })
  expect(commits).toBe(2)
  await expectMoved(stage)
})

test('an attempt that has made nothing yet ends after a restart though its destination does not answer', async () => {
  const id = await stage.start()
  const first = stage.runner({
    2: list.map((phase) => ({
      ...phase,
      do: async (context) => {
        if (phase.name !== 'INSTANTIATE_DESTINATION') return phase.do(context)
        void first.close()
        throw new Error('killed')
      },
    })),
  })
  await expect(stage.drive(first, id)).rejects.toThrow('The control plane is ending')
  hook = (call) => {
    if (call.startsWith('west.')) throw new ProviderError('UNREACHABLE', 'No answer.', { retryable: true, remedy: 'Wait.' })
  }
  await stage.database.write((orm) => [orm.update(migrations).set({ desired: 'CANCEL' })])
  expect(await stage.drive(stage.runner(), id)).toMatchObject({ state: 'CANCELLED', copyKept: false })
  expect(await stage.isLocked()).toBe(false)
})

test('a run that another control plane has followed by a retry is not run by the engine that never heard of its end', async () => {
  stage.health.status = 500
  const id = await stage.start()
  const one = stage.runner()
  const key = runKey(await stage.store.read(id))
  expect(await stage.drive(one, id)).toMatchObject({ state: 'FAILED' })
  await stage.operations.retryMigration(operator, { idempotencyKey: `after-${keys++}`, migrationId: id })
  const before = stage.world.look().calls
  expect(await one.advance(key)).toBe(null)
  expect(stage.world.look().calls).toEqual(before)
  expect(await stage.store.read(id)).toMatchObject({ state: 'PENDING' })
})
