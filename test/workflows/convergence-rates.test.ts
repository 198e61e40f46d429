import { afterEach, beforeEach, expect, test } from 'vitest'
import type { CallHook } from './support/fake-clouds.ts'
import { setMigrationStage, type MigrationStage } from './support/migration-stage.ts'
import type { MigrationRow } from '../../src/workflows/migration-store.ts'

let stage: MigrationStage
let hook: CallHook

beforeEach(async () => {
  hook = () => {}
  stage = await setMigrationStage({ hook: (call, when) => hook(call, when) })
})
afterEach(() => stage.close())

interface Rates {
  rateBytesPerSecond: number | null
  changeRateBytesPerSecond: number | null
}

/** Ends as its policy says, after rounds that had these rates and got no shorter. */
async function endNotConverging(rates: Rates): Promise<MigrationRow> {
  const result = (round: number) => ({
    round,
    mode: 'CHANGED' as const,
    changedBytes: 65_536,
    bytesSent: 65_536,
    verifiedBytes: 65_536,
    durationMs: 1,
    pendingBytes: 65_536,
    estimatedTransferMs: 1_000_000,
    estimatedVerifyMs: 1,
    rescanNeeded: false,
    ...rates,
  })
  stage.world.change('rounds', ({ rounds }) => {
    for (let round = 1; round <= 50; round++) rounds[round] = result(round)
  })
  const id = await stage.start({ nonConvergencePolicy: 'ABORT', permittedDowntimeMs: 60_000 })
  const between: MigrationRow[] = []
  hook = async (call, when) => {
    if (call === 'SOURCE.round.run' && when === 'before') between.push(await stage.store.read(id))
  }
  const migration = await stage.drive(stage.runner(), id)
  expect(migration).toMatchObject({ state: 'FAILED', errorCode: 'NOT_CONVERGING', convergence: 'NOT_CONVERGING' })
  expect(between.at(-1)).toMatchObject(rates)
  return migration
}

const figures = '1000004 ms are estimated to remain, and 60000 ms are permitted.'

test.each<[string, Rates, string]>([
  [
    'changes faster than it can be copied',
    { rateBytesPerSecond: 2_000_000, changeRateBytesPerSecond: 3_000_000 },
    'The source changes faster than it can be copied: it changes at 3000000 bytes a second and is copied at 2000000 bytes a second;',
  ],
  [
    'is idle, and needs longer than is permitted all the same',
    { rateBytesPerSecond: 2_000_000, changeRateBytesPerSecond: 0 },
    'The source is copied faster than it changes, but the permitted downtime is shorter than the switchover takes even so: it changes at 0 bytes a second and is copied at 2000000 bytes a second;',
  ],
  [
    'changes nobody knows how fast',
    { rateBytesPerSecond: 2_000_000, changeRateBytesPerSecond: null },
    "The rounds don't get shorter: it changes at an unknown rate and is copied at 2000000 bytes a second;",
  ],
])('a source that %s ends a copy where the policy says so, with both rates named', async (_, rates, sentence) => {
  expect((await endNotConverging(rates)).errorMessage).toBe(`${sentence} ${figures}`)
})
