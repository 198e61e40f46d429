import { PortolanError } from './errors.ts'
import { phasesBetween, type DesiredState, type MigrationDirection, type MigrationPhase, type MigrationState } from './migration.ts'

export interface MigrationStanding {
  id: string
  state: MigrationState
  phase: MigrationPhase
  direction: MigrationDirection
  desired: DesiredState
  copyKept: boolean
  /** It carried, or carries, the writes of that migration back. */
  rollsBackMigrationId: string | null
}

/** What steers a migration that runs. */
export type OperatorAction = 'PAUSE' | 'RESUME' | 'CUT_OVER' | 'CUT_OVER_LATER' | 'CANCEL'

/** What begins with one that has ended. */
export type AfterEndAction = 'RETRY' | 'DISCARD' | 'ROLL_BACK'

const switchover: ReadonlySet<MigrationPhase> = new Set(phasesBetween('ARM_FENCE', 'FENCE_SOURCE'))
/** From COMMIT on there is no way back: the record may be at the destination already. A rollback goes forward only, too. */
const forwardOnly: ReadonlySet<MigrationPhase> = new Set(phasesBetween('COMMIT', 'DISCARD_COPY'))

export function isEnded(state: MigrationState): boolean {
  return state === 'COMPLETED' || state === 'FAILED' || state === 'CANCELLED' || state === 'ROLLED_BACK'
}

/** Throws PortolanError NOT_ALLOWED_NOW when the action makes no sense in that state; returns where it does, or is done already. */
export function requireAllowed(action: OperatorAction, migration: MigrationStanding): void {
  const { phase } = migration
  if (isEnded(migration.state)) throw refusal(action, migration, `it has ended (${migration.state})`, 'Start another migration.')
  if (forwardOnly.has(phase))
    throw refusal(action, migration, 'the destination has taken over', 'Wait for it to end; to go back, roll it back then.')
  if (action === 'CANCEL') return
  if (migration.desired === 'CANCEL' || migration.direction === 'BACK_TO_START')
    throw refusal(action, migration, 'it is being undone', 'Wait for it to end, then start another.')
  if ((action === 'PAUSE' || action === 'CUT_OVER_LATER') && switchover.has(phase))
    throw refusal(action, migration, 'the switchover is under way', 'Wait for it, or cancel the migration.')
}

/** Throws PortolanError NOT_ALLOWED_NOW, as above. */
export function requireAllowedAfterEnd(action: AfterEndAction, migration: MigrationStanding): void {
  const { state } = migration
  if (!isEnded(state)) throw refusal(action, migration, `it is ${state}`, 'Wait for it to end, or cancel it.')
  if (action === 'RETRY' && state !== 'FAILED' && state !== 'CANCELLED')
    throw refusal(action, migration, `it is ${state}`, 'Start another migration.')
  if (action === 'ROLL_BACK' && state !== 'COMPLETED')
    throw refusal(action, migration, `it is ${state}, and the source has not been left`, 'Only a completed migration is rolled back.')
  if (action === 'ROLL_BACK' && migration.rollsBackMigrationId !== null)
    throw refusal(
      action,
      migration,
      `it rolled migration ${migration.rollsBackMigrationId} back`,
      'To move the machine again, discard the copy that migration keeps, and start another migration.',
    )
  if (action === 'DISCARD' && !migration.copyKept)
    throw refusal(action, migration, 'it keeps no copy at the destination', 'There is nothing to do.')
}

function refusal(action: OperatorAction | AfterEndAction, migration: MigrationStanding, because: string, remedy: string): PortolanError {
  return new PortolanError(
    'NOT_ALLOWED_NOW',
    `${action} of migration ${migration.id} was refused, since ${because}; nothing was changed.`,
    {
      retryable: false,
      remedy,
      path: ['input', 'migrationId'],
    },
  )
}
