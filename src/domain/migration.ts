/**
 * The life of a migration. Single writer: its workflow (src/workflows). GraphQL reads it; mutations write `desired` only.
 *
 *   PENDING ─► RUNNING ◄─► PAUSED
 *                │ ├────────────► CANCELLED
 *                │ └────────────► FAILED
 *                └──────────────► COMPLETED
 */
export const migrationStates = ['PENDING', 'RUNNING', 'PAUSED', 'COMPLETED', 'FAILED', 'CANCELLED'] as const
export type MigrationState = (typeof migrationStates)[number]

/** Where a running migration is. Shown to users; the frozen lists of phases per version are in src/workflows/phase-lists.ts. */
export const migrationPhases = [
  'PRE_FLIGHT',
  'INSTANTIATE_DESTINATION',
  'INSTALL_AGENTS',
  'CONNECT_AGENTS',
  'TRACK_CHANGES',
  'SYNC',
  'READY_TO_CUT_OVER',
  'FREEZE',
  'SEND_REMAINDER',
  'COMPARE_ROOTS',
  'SUSPEND_SOURCE',
  'SEAL_COPY',
  'FIX_UP_GUEST',
  'BOOT_DESTINATION',
  'HEALTH_CHECK',
  'COMMIT',
  'EXPOSE',
  'RETIRE_SOURCE',
  'CLEAN_UP',
] as const
export type MigrationPhase = (typeof migrationPhases)[number]

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
