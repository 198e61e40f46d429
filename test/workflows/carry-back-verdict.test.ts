/** A machine moved from east to west, and its writes are being carried back to the one that it left: what the records of both sites say when nobody remembers anything. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { attestations } from '../../src/database/tables/attestation.ts'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import { createIdempotency } from '../../src/workflows/idempotency.ts'
import { createReconciliationOperations } from '../../src/workflows/reconciliation-operations.ts'
import { createReconciliationRunner } from '../../src/workflows/reconciliation-runner.ts'
import { createVerdictReader, type VerdictReader } from '../../src/workflows/verdict-reader.ts'
import { operator } from './support/migration-settings-for-tests.ts'
import { machine, migrationId as moved, putRecords, setVerdictStage, uniqueId, type VerdictStage } from './verdict-stage.ts'

const carrying = 'bbbbbbbb-0000-4000-8000-000000000002'
const leftFence = { id: `${moved}.1.1`, closed: true }
const ofCarrying = {
  migrationId: carrying,
  writtenAt: '2026-11-23T12:00:00.000Z',
  vmId: 'vm-1',
  sourceVmId: 'copy',
  rollsBack: moved,
}

let stage: VerdictStage
let reader: VerdictReader

beforeEach(async () => {
  stage = await setVerdictStage()
  await stage.connect('east', 'west')
  reader = createVerdictReader({ ...stage, timeoutMs: 60 })
  putRecords(stage.west, ['started', 'placeholder', 'COMMITTED', 'completed'])
  putRecords(stage.east, ['started', 'placeholder'], ofCarrying)
  // The landing image runs there; the copy was suspended for the switch.
  stage.east.machines['vm-1'] = machine({ exposed: false, adopted: leftFence })
  stage.west.machines['copy'] = machine({ power: 'SUSPENDED', fence: { id: `${carrying}.1.1`, closed: true } })
})
afterEach(async () => {
  expect(stage.violations).toEqual([])
  await stage.close()
})

async function verdictOf(migrationId: string) {
  const [verdict] = await reader.read({ migrationIds: [migrationId] }, new AbortController().signal)
  const { standing, safeActions } = verdict!
  return { verdict: standing.verdict, row: standing.row, disputed: standing.disputed, safeActions }
}

async function reconcile(): Promise<string[]> {
  const submitted: string[] = []
  const runner = createReconciliationRunner({
    database: stage.database,
    verdicts: reader,
    timings: { firstLookMs: 5, maxLookMs: 20, sliceMs: 30 },
  })
  const idempotency = createIdempotency(stage.database, sealKeyOf(Buffer.alloc(32, 7)))
  const { reconcileMigrations } = createReconciliationOperations({
    verdicts: reader,
    idempotency,
    engineId: 'engine',
    submit: async (key) => void submitted.push(key),
  })
  await reconcileMigrations(operator, { idempotencyKey: 'key', cloudId: 'east' })
  for (const key of submitted) while ((await runner.advance(key)) !== null);
  await runner.close()
  return submitted
}

test('before the commit the move counts, and what was begun on top of it does not', async () => {
  expect(await verdictOf(moved)).toMatchObject({ verdict: 'MIGRATED', row: 'COMPLETED', disputed: false })
  expect(await verdictOf(carrying)).toMatchObject({ verdict: 'NOT_MIGRATED', row: 'NO_COMPLETED_EVENT', disputed: false })
})

test('a reconciliation before the commit gives the machine that was left back, under its fence, and lets the copy go on', async () => {
  expect(await reconcile()).toHaveLength(2)
  expect(stage.east.machines['vm-1']).toEqual(machine({ power: 'STOPPED', fence: leftFence, exposed: false }))
  expect(stage.west.machines['copy']).toMatchObject({ power: 'RUNNING', fence: null })
  expect(stage.east.records[`migration.${carrying}.1.outcome`]?.content).toMatchObject({ decision: 'ABANDONED' })
  expect(await verdictOf(moved)).toMatchObject({ verdict: 'MIGRATED', disputed: false, safeActions: ['NONE'] })
  expect(await verdictOf(carrying)).toMatchObject({ verdict: 'NOT_MIGRATED', safeActions: ['LET_SOURCE_RUN'] })
})

describe('a reconciliation that was cut short between its record and giving the machine back, which was off,', () => {
  beforeEach(() => {
    stage.east.machines['vm-1'] = machine({ power: 'STOPPED', exposed: false, adopted: leftFence })
  })
  const isGivenBack = () => expect(stage.east.machines['vm-1']).toEqual(machine({ power: 'STOPPED', exposed: false, fence: leftFence }))

  test('gives it back when it looks again', async () => {
    let failed = false
    stage.interrupt.before = (call) => {
      if (call !== 'east.giveBack' || failed) return
      failed = true
      throw new ProviderError('UNREACHABLE', 'It does not answer.', { retryable: true, remedy: 'Wait.' })
    }
    await reconcile()
    expect(failed).toBe(true)
    isGivenBack()
    expect(stage.west.machines['copy']).toMatchObject({ power: 'RUNNING', fence: null })
  })

  test('has another process give it back, once the record is sure to last', async () => {
    putRecords(stage.east, ['ABANDONED'], ofCarrying)
    await reconcile()
    isGivenBack()
    const { calls } = stage.east
    expect(calls.slice(0, calls.indexOf('east.giveBack'))).toContain('east.putAgain')
  })

  test('leaves it alone where somebody runs it after his word that the copy is dead', async () => {
    putRecords(stage.east, ['ABANDONED'], ofCarrying)
    const word = {
      id: 'a',
      cloudId: 'east',
      uniqueId,
      migrationId: carrying,
      attempt: 1,
      statement: 'Burnt.',
      tokenId: 't',
      at: new Date(),
    }
    await stage.database.write((orm) => [orm.insert(attestations).values(word)])
    stage.west.site = 'DEAD'
    const runs = machine({ adopted: leftFence })
    stage.west.machines = {}
    stage.east.machines['vm-1'] = structuredClone(runs)
    await reconcile()
    expect(stage.east.machines['vm-1']).toEqual(runs)
  })
})

test('from the commit on what was carried back counts; nothing is done by the records of the move', async () => {
  putRecords(stage.east, ['COMMITTED'], ofCarrying)
  expect(await verdictOf(carrying)).toMatchObject({ verdict: 'MIGRATED', row: 'COMPLETED_EVENT', disputed: false })
  expect(await verdictOf(moved)).toMatchObject({ disputed: true, safeActions: ['NONE'] })
  await reconcile()
  expect(stage.east.machines['vm-1']).toMatchObject({ power: 'RUNNING', exposed: true })
  expect(stage.west.machines['copy']?.power).toBe('STOPPED')
})

test('once the rollback is recorded, both say that the machine lives where it had left from', async () => {
  putRecords(stage.east, ['COMMITTED', 'completed'], ofCarrying)
  putRecords(stage.west, ['rolled-back'])
  stage.east.machines['vm-1'] = machine()
  stage.west.machines['copy'] = machine({ power: 'STOPPED', fence: { id: `${carrying}.1.1`, closed: true } })
  expect(await verdictOf(moved)).toEqual({ verdict: 'NOT_MIGRATED', row: 'ROLLED_BACK', disputed: false, safeActions: ['LET_SOURCE_RUN'] })
  expect(await verdictOf(carrying)).toEqual({ verdict: 'MIGRATED', row: 'COMPLETED', disputed: false, safeActions: ['NONE'] })
})

describe('where the copy had moved on to south, and was carried back to west, before it is carried on to east,', () => {
  const onward = 'cccccccc-0000-4000-8000-000000000003'
  const returning = 'dddddddd-0000-4000-8000-000000000004'

  beforeEach(async () => {
    await stage.connect('south')
    putRecords(stage.south, ['started', 'placeholder', 'COMMITTED', 'completed', 'rolled-back'], {
      migrationId: onward,
      vmId: 'south-1',
      sourceVmId: 'copy',
      writtenAt: '2026-11-22T18:00:00.000Z',
    })
    putRecords(stage.west, ['started', 'placeholder', 'COMMITTED', 'completed'], {
      migrationId: returning,
      sourceVmId: 'south-1',
      rollsBack: onward,
      writtenAt: '2026-11-22T19:00:00.000Z',
    })
    stage.south.machines['south-1'] = machine({ power: 'STOPPED', fence: { id: `${returning}.1.1`, closed: true } })
  })

  test('a reconciliation before the commit lets the copy in west go on', async () => {
    await reconcile()
    expect(stage.east.machines['vm-1']).toEqual(machine({ power: 'STOPPED', fence: leftFence, exposed: false }))
    expect(stage.west.machines['copy']).toMatchObject({ power: 'RUNNING', fence: null })
  })

  test.each([{ recorded: false }, { recorded: true }])(
    'it lives in east from the commit on (rollback recorded: $recorded)',
    async ({ recorded }) => {
      putRecords(stage.east, ['COMMITTED', 'completed'], ofCarrying)
      if (recorded) putRecords(stage.west, ['rolled-back'])
      stage.east.machines['vm-1'] = machine()
      stage.west.machines['copy'] = machine({ power: 'STOPPED', fence: { id: `${carrying}.1.1`, closed: true } })
      expect(await verdictOf(carrying)).toMatchObject({ verdict: 'MIGRATED', disputed: false, safeActions: ['NONE'] })
      const safe = recorded ? ['LET_SOURCE_RUN'] : ['NONE']
      expect(await verdictOf(moved)).toMatchObject({ safeActions: safe })
      expect(await verdictOf(returning)).toMatchObject({ disputed: true, safeActions: ['NONE'] })
      stage.west.canFence = false
      expect(await verdictOf(returning)).toMatchObject({ safeActions: ['NONE'] })
    },
  )
})
