import { PortolanError } from './errors.ts'
import type { DesiredState, MigrationDirection, MigrationPhase, MigrationState } from './migration.ts'

export interface MigrationStanding {
  id: string
  state: MigrationState
  phase: MigrationPhase
  direction: MigrationDirection
  desired: DesiredState
}

export type OperatorAction = 'PAUSE' | 'RESUME' | 'CUT_OVER' | 'CANCEL'

const switchover: ReadonlySet<MigrationPhase> = new Set([
  'FREEZE',
  'SEND_REMAINDER',
  'COMPARE_ROOTS',
  'SUSPEND_SOURCE',
  'SEAL_COPY',
  'FIX_UP_GUEST',
  'BOOT_DESTINATION',
  'HEALTH_CHECK',
])
const afterCommit: ReadonlySet<MigrationPhase> = new Set(['COMMIT', 'EXPOSE', 'RETIRE_SOURCE', 'CLEAN_UP'])

/** From COMMIT on there is no way back: the record may be at the destination already. */
function isCommitting(phase: MigrationPhase): boolean {
  return afterCommit.has(phase)
}

export function isEnded(state: MigrationState): boolean {
  return state === 'COMPLETED' || state === 'FAILED' || state === 'CANCELLED'
}

/** Throws PortolanError NOT_ALLOWED_NOW when the action makes no sense in that state; returns where it does, or is done already. */
export function requireAllowed(action: OperatorAction, migration: MigrationStanding): void {
  const { phase } = migration
  if (isEnded(migration.state)) throw refusal(action, migration, `it has ended (${migration.state})`, 'Start another migration.')
  if (isCommitting(phase))
    throw refusal(action, migration, 'the destination has taken over', 'Wait for it to end; to go back, migrate in the other direction.')
  if (action === 'CANCEL') return
  if (migration.desired === 'CANCEL' || migration.direction === 'BACK_TO_START')
    throw refusal(action, migration, 'it is being undone', 'Wait for it to end, then start another.')
  if (action === 'PAUSE' && switchover.has(phase))
    throw refusal(action, migration, 'the switchover is under way', 'Wait for it, or cancel the migration.')
}

function refusal(action: OperatorAction, migration: MigrationStanding, because: string, remedy: string): PortolanError {
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
