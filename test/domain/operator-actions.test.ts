import { describe, expect, test } from 'vitest'
import { migrationPhases } from '../../src/domain/migration.ts'
import { requireAllowed, type MigrationStanding } from '../../src/domain/operator-actions.ts'

const standing = (change: Partial<MigrationStanding>): MigrationStanding => ({
  id: 'm',
  state: 'RUNNING',
  phase: 'SYNC',
  direction: 'FORWARD',
  desired: 'RUN',
  copyKept: false,
  rollsBackMigrationId: null,
  ...change,
})
const allowed = (...parameters: Parameters<typeof requireAllowed>) => {
  try {
    requireAllowed(...parameters)
    return true
  } catch {
    return false
  }
}

describe('the operator', () => {
  test('may cancel until the destination takes over', () => {
    const mayCancel = migrationPhases.filter((phase) => allowed('CANCEL', standing({ phase })))
    expect(migrationPhases.slice(mayCancel.length)).toEqual([
      'COMMIT',
      'EXPOSE',
      'RETIRE_SOURCE',
      'CLEAN_UP',
      'STOP_DESTINATION',
      'RECORD_ROLLBACK',
      'RELEASE_SOURCE',
      'START_SOURCE',
      'DISCARD_COPY',
    ])
  })

  test('may pause until the switchover begins', () => {
    const mayPause = migrationPhases.filter((phase) => allowed('PAUSE', standing({ phase })))
    expect(mayPause.at(-1)).toBe('READY_TO_CUT_OVER')
  })

  test('may postpone the cutover until the switchover begins, and ask for it at once in the switchover too', () => {
    expect(migrationPhases.filter((phase) => allowed('CUT_OVER_LATER', standing({ phase }))).at(-1)).toBe('READY_TO_CUT_OVER')
    expect(allowed('CUT_OVER', standing({ phase: 'FREEZE' }))).toBe(true)
  })

  test.each(['COMPLETED', 'FAILED', 'CANCELLED', 'ROLLED_BACK'] as const)('may not steer a migration that is %s', (state) => {
    for (const action of ['PAUSE', 'RESUME', 'CUT_OVER', 'CANCEL'] as const) expect(allowed(action, standing({ state }))).toBe(false)
  })

  test('can only watch while it is undone, and cancel twice', () => {
    const undone = standing({ direction: 'BACK_TO_START', desired: 'CANCEL' })
    expect((['PAUSE', 'RESUME', 'CUT_OVER', 'CANCEL'] as const).filter((action) => allowed(action, undone))).toEqual(['CANCEL'])
  })
})
