import { afterEach, beforeEach, expect, test } from 'vitest'
import type { BandwidthSchedule } from '../../src/domain/bandwidth-schedule.ts'
import { createBandwidthKeeper } from '../../src/workflows/bandwidth-keeper.ts'
import type { MigrationRow } from '../../src/workflows/migration-store.ts'
import { operator, setMigrationStage, type MigrationStage } from './support/migration-stage.ts'

let stage: MigrationStage
beforeEach(async () => {
  stage = await setMigrationStage()
})
afterEach(() => stage.close())

const office = { from: '08:00', to: '18:00', timeZone: 'UTC', limitBytesPerSecond: 100_000 }
const set = (migrationId: string, bandwidth: BandwidthSchedule, idempotencyKey = 'limit') =>
  stage.operations.setBandwidthLimit(operator, { idempotencyKey, migrationId, bandwidth })

/** An agent that only notes what it is told, and fails when asked to. */
function listener(options?: { frozen: boolean }) {
  const told: unknown[] = []
  let failing = false
  const keeper = createBandwidthKeeper(
    {
      request: async (method, params) => {
        if (failing) throw new Error('not now')
        told.push([method, params])
        return {}
      },
    },
    options,
  )
  return { told, keeper, fail: (value: boolean) => void (failing = value) }
}
const row = (change: Partial<MigrationRow>) => ({ phase: 'SYNC', bandwidth: null, request: {}, ...change }) as MigrationRow
const at = (time: string) => new Date(`2026-01-15T${time}:00Z`)
const limit = (limitBytesPerSecond: number | null) => ['bandwidth.set', { limitBytesPerSecond }]

test('the agent is told when a window begins and ends, and not in between', async () => {
  const { told, keeper } = listener()
  const migration = row({ bandwidth: { limitBytesPerSecond: 5_000_000, windows: [office] } })
  for (const time of ['07:58', '07:59', '08:00', '12:00', '17:59', '18:00']) await keeper.apply(migration, at(time))
  expect(told).toEqual([limit(5_000_000), limit(100_000), limit(5_000_000)])
})

test('the newest word counts, an agent that nobody limited hears nothing, and what failed is said again', async () => {
  const { told, keeper, fail } = listener()
  await keeper.apply(row({}), at('12:00'))
  expect(told).toEqual([])
  await keeper.apply(row({ request: { bandwidth: { windows: [office] } } as MigrationRow['request'] }), at('12:00'))
  fail(true)
  await expect(keeper.apply(row({ bandwidth: { windows: [] } }), at('12:00'))).rejects.toThrow('not now')
  fail(false)
  await keeper.apply(row({ bandwidth: { windows: [] } }), at('12:00'))
  expect(told).toEqual([limit(100_000), limit(null)])
})

test('a round for which the source stands still is not limited, whatever the phase', async () => {
  const { told, keeper } = listener({ frozen: true })
  await keeper.apply(row({ bandwidth: { limitBytesPerSecond: 100_000, windows: [] }, phase: 'READY_TO_CUT_OVER' }))
  expect(told).toEqual([limit(null)])
})

test('an operator changes the limit of a migration until it has ended', async () => {
  const migrationId = await stage.start({ bandwidth: { limitBytesPerSecond: 1_000_000, windows: [] } })
  expect(await set(migrationId, { windows: [office] })).toEqual({ migrationId })
  expect((await stage.store.read(migrationId)).bandwidth).toEqual({ windows: [office] })
  await expect(set(migrationId, { limitBytesPerSecond: 1, windows: [] }, 'too little')).rejects.toMatchObject({
    code: 'INVALID_INPUT',
    path: ['input', 'bandwidth'],
  })
  // A cancel is answered once the data path has stopped.
  await Promise.all([
    stage.operations.cancelMigration(operator, { idempotencyKey: 'cancel', migrationId }),
    stage.drive(stage.runner(), migrationId),
  ])
  await expect(set(migrationId, { windows: [] }, 'too late')).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW' })
  await expect(set('nothing', { windows: [] }, 'nothing')).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('a request for what makes no sense is refused before anything is stored', async () => {
  await expect(stage.start({ bandwidth: { windows: [{ ...office, timeZone: 'Nowhere' }] } })).rejects.toMatchObject({
    code: 'INVALID_INPUT',
    path: ['input', 'bandwidth'],
  })
  await expect(stage.start({ excludedDirectories: ['/var/../etc'] })).rejects.toMatchObject({
    code: 'INVALID_INPUT',
    path: ['input', 'excludedDirectories'],
  })
})
