/**
 * The life of a migration. Single writer: its workflow (src/workflows). GraphQL reads it; mutations write `desired` only.
 *
 *   PENDING ─► RUNNING ◄─► PAUSED
 *                │ ├────────────► CANCELLED
 *                │ └────────────► FAILED
 *                └──────────────► COMPLETED ─► RUNNING ─► ROLLED_BACK
 *
 * FAILED and CANCELLED go back to PENDING when they are retried, as another attempt.
 */
export const migrationStates = ['PENDING', 'RUNNING', 'PAUSED', 'COMPLETED', 'FAILED', 'CANCELLED', 'ROLLED_BACK'] as const
export type MigrationState = (typeof migrationStates)[number]

/** Where a running migration is. Shown to users; the frozen lists of phases per version are in src/workflows/phase-lists.ts. */
export const migrationPhases = [
  'PRE_FLIGHT',
  'ADMISSION',
  'INSTANTIATE_DESTINATION',
  'INSTALL_AGENTS',
  'CONNECT_AGENTS',
  'TRACK_CHANGES',
  'SYNC',
  'READY_TO_CUT_OVER',
  'ARM_FENCE',
  'FREEZE',
  'SEND_REMAINDER',
  'COMPARE_ROOTS',
  'SUSPEND_SOURCE',
  'SEAL_COPY',
  'FIX_UP_GUEST',
  'BOOT_DESTINATION',
  'HEALTH_CHECK',
  'FENCE_SOURCE',
  'COMMIT',
  'EXPOSE',
  'RETIRE_SOURCE',
  'CLEAN_UP',
  'STOP_DESTINATION',
  'RECORD_ROLLBACK',
  'RELEASE_SOURCE',
  'START_SOURCE',
  'DISCARD_COPY',
] as const
export type MigrationPhase = (typeof migrationPhases)[number]

/** Both ends included, in the order of `migrationPhases`. */
export function phasesBetween(first: MigrationPhase, last: MigrationPhase): readonly MigrationPhase[] {
  return migrationPhases.slice(migrationPhases.indexOf(first), migrationPhases.indexOf(last) + 1)
}

/** FORWARD through the list of phases; BACK_TO_SYNC undoes a voided switchover; BACK_TO_START undoes everything, before the commit only. */
export const migrationDirections = ['FORWARD', 'BACK_TO_SYNC', 'BACK_TO_START'] as const
export type MigrationDirection = (typeof migrationDirections)[number]

/** Whether rounds get smaller fast enough for the criterion to be met some day (see convergence.ts). */
export const convergences = ['CONVERGING', 'NOT_CONVERGING'] as const
export type Convergence = (typeof convergences)[number]

export const nonConvergencePolicies = ['KEEP_SYNCING', 'ABORT', 'FORCE'] as const
/** What happens when the criterion won't be met: go on syncing, give up, or cut over with a longer downtime than permitted. */
export type NonConvergencePolicy = (typeof nonConvergencePolicies)[number]

/** What the operator wants; the workflow's closures poll it. */
export const desiredStates = ['RUN', 'PAUSE', 'CANCEL'] as const
export type DesiredState = (typeof desiredStates)[number]

export const cutoverPolicies = ['AUTOMATIC', 'MANUAL'] as const
/** AUTOMATIC cuts over once the criterion holds; MANUAL waits at READY_TO_CUT_OVER, syncing, for `cutOverMigration`. */
export type CutoverPolicy = (typeof cutoverPolicies)[number]

/** How downtime is made up, in milliseconds. Their sum is the time from the freeze to the passed health check and exposure. */
export interface Downtime {
  freezeMs: number
  transferMs: number
  verifyMs: number
  bootMs: number
  healthMs: number
}
