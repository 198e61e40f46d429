import { expect, test } from 'vitest'
import { setMigrationStage } from './support/migration-stage.ts'

test('a copy that does not converge ends, where the policy says so, with both rates named', async () => {
  const stage = await setMigrationStage()
  try {
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
      rateBytesPerSecond: 2_000_000,
      changeRateBytesPerSecond: 3_000_000,
    })
    stage.world.change('rounds', ({ rounds }) => {
      for (let round = 1; round <= 50; round++) rounds[round] = result(round)
    })
    const id = await stage.start({ nonConvergencePolicy: 'ABORT' })
    const migration = await stage.drive(stage.runner(), id)
    expect(migration).toMatchObject({ state: 'FAILED', errorCode: 'NOT_CONVERGING', convergence: 'NOT_CONVERGING' })
    expect(migration.errorMessage).toContain('it changes at 3000000 bytes a second and is copied at 2000000 bytes a second')
    expect(migration).toMatchObject({ rateBytesPerSecond: 2_000_000, changeRateBytesPerSecond: 3_000_000 })
  } finally {
    await stage.close()
  }
})
