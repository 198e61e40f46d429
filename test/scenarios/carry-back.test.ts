import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { workloadEndpoint } from '../../src/cli/demo-migration.ts'
import { killControlPlane } from '../support/kill.ts'
import { hasEnded, openScenario, type ScenarioMigration, type ScenarioSite } from '../support/scenario-site.ts'

/** A real machine is moved, writes on at its destination, and is rolled back with what it wrote: each provider is the one that takes its machine back once. */
let scenario: ScenarioSite
let moved: string
let copiedBytes: number

interface Answer {
  migration?: { id: string; rollsBack: { id: string } | null }
  code?: string
}
async function rollBack(carryWritesBack = true): Promise<Answer> {
  const answer = await scenario.api().run<{ rollbackMigration: Answer }>(
    `mutation RollBack($input: RollbackMigrationInput!) { rollbackMigration(input: $input) {
      ... on RollbackMigrationSuccess { migration { id rollsBack { id } } } ... on Error { code } } }`,
    { input: { idempotencyKey: randomUUID(), migrationId: moved, carryWritesBack } },
  )
  return answer.rollbackMigration
}

async function beginToCarryBack(): Promise<string> {
  const { migration } = await rollBack()
  expect(migration!.rollsBack).toEqual({ id: moved })
  return migration!.id
}

async function ask(mutation: 'cancelMigration' | 'discardMigration', migrationId: string): Promise<void> {
  const name = mutation[0]!.toUpperCase() + mutation.slice(1)
  const document = `mutation Ask($input: ${name}Input!) { ${mutation}(input: $input) { __typename ... on Error { message } } }`
  const answer = await scenario.api().run(document, { input: { idempotencyKey: randomUUID(), migrationId } })
  expect(answer).toEqual({ [mutation]: { __typename: `${name}Success` } })
}

async function verdictOf(migrationId: string): Promise<{ verdict: string; safeActions: string[] }> {
  const document = `query Verdict($id: ID!) { migrationVerdicts(migrationIds: [$id]) { verdict safeActions } }`
  const answer = await scenario
    .api()
    .run<{ migrationVerdicts: { verdict: string; safeActions: string[] }[] }>(document, { id: migrationId })
  return answer.migrationVerdicts[0]!
}

const source = () => scenario.source.connection.virtualMachines.describe({ vmId: scenario.vm.vmId })
const fence = () => scenario.source.connection.fencing!.confirm({ vmId: scenario.vm.vmId })
const powerAtDestination = async () =>
  (await scenario.destination.connection.discoverTopology({})).virtualMachines.map(({ power }) => power)
const changedBytes = ({ rounds }: ScenarioMigration) => rounds.nodes.reduce((sum, round) => sum + Number(round.changedBytes), 0)

async function recordsAreAcknowledged(): Promise<void> {
  const soFar = scenario.records.acknowledged()
  await vi.waitFor(() => expect(scenario.records.acknowledged()).toBeGreaterThan(soFar + 5), { timeout: 180_000, interval: 200 })
}

async function moveAway(from: 'east' | 'west'): Promise<void> {
  scenario = await openScenario({ from })
  const { migration } = await scenario.start()
  moved = migration!.id
  const ended = await scenario.until(moved, hasEnded)
  expect(ended).toMatchObject({ state: 'COMPLETED' })
  copiedBytes = changedBytes(ended)
  scenario.records.moveTo(workloadEndpoint(ended, 8080))
  await recordsAreAcknowledged()
}

async function theSourceRunsWithEveryRecord(carrying: string): Promise<void> {
  const ended = await scenario.until(carrying, hasEnded)
  expect(ended).toMatchObject({ state: 'COMPLETED', verified: true, error: null })
  // What the busy guest wrote since its move is sent, of course.
  expect(changedBytes(ended)).toBeLessThan(copiedBytes / 2)
  scenario.records.moveTo(workloadEndpoint(ended, 8080))
  await recordsAreAcknowledged()
  await scenario.records.stop()
  expect(await scenario.records.count()).toBe(scenario.records.acknowledged())
  expect((await source()).power).toBe('RUNNING')
  expect(await powerAtDestination()).toEqual(['STOPPED'])
  expect(await scenario.migration(moved)).toMatchObject({ state: 'ROLLED_BACK' })
  expect(await verdictOf(moved)).toMatchObject({ verdict: 'NOT_MIGRATED' })
  expect(await verdictOf(carrying)).toEqual({ verdict: 'MIGRATED', safeActions: ['NONE'] })
}

describe('back to qemu', () => {
  beforeAll(() => moveAway('east'))
  afterAll(() => scenario?.close())

  test('cancelled in the middle, the destination goes on, and the source is off and fenced as it was left', async () => {
    const [left, leftFence] = [await source(), await fence()]
    const carrying = await beginToCarryBack()
    await scenario.until(carrying, ({ currentRound, state }) => hasEnded({ state }) || Number(currentRound?.scannedBytes ?? 0) > 0)
    expect(await verdictOf(moved)).toEqual({ verdict: 'MIGRATED', safeActions: ['LET_MIGRATION_RUN'] })
    expect(await rollBack(false)).toMatchObject({ code: 'ALREADY_MIGRATING' })
    await ask('cancelMigration', carrying)
    expect(await scenario.migration(carrying)).toMatchObject({ state: 'CANCELLED' })
    expect(await source()).toEqual(left)
    expect(await fence()).toEqual(leftFence)
    expect(await powerAtDestination()).toEqual(['RUNNING'])
    expect(await verdictOf(moved)).toEqual({ verdict: 'MIGRATED', safeActions: ['NONE'] })
    await recordsAreAcknowledged()
  })

  test('roll back without losing what was written since: the source runs again, with every acknowledged record', async () => {
    await theSourceRunsWithEveryRecord(await beginToCarryBack())
  })

  test('what was made at the destination is a copy by then, and goes when it is discarded', async () => {
    await ask('discardMigration', moved)
    await scenario.until(moved, ({ state }) => state === 'ROLLED_BACK')
    expect(await powerAtDestination()).toEqual([])
    expect((await source()).power).toBe('RUNNING')
  })
})

describe('back to libvirt', () => {
  beforeAll(() => moveAway('west'))
  afterAll(() => scenario?.close())

  test('killed again and again on the way, the control plane ends the rollback with nothing lost', async () => {
    const carrying = await beginToCarryBack()
    const killed: string[] = []
    const victims = ['INSTANTIATE_DESTINATION', 'SYNC', 'SEND_REMAINDER', 'HEALTH_CHECK', 'RETIRE_SOURCE', 'CLEAN_UP']
    for (;;) {
      const present = await scenario.until(
        carrying,
        (seen) => hasEnded(seen) || (victims.includes(seen.phase) && !killed.includes(seen.phase)),
      )
      if (hasEnded(present)) break
      killed.push(present.phase)
      await killControlPlane(scenario.controlPlane())
      await scenario.restartControlPlane()
    }
    // Phases that last milliseconds may pass unseen between two looks.
    expect(killed).toEqual(expect.arrayContaining(['INSTANTIATE_DESTINATION', 'SYNC', 'HEALTH_CHECK']))
    await theSourceRunsWithEveryRecord(carrying)
  })
})
