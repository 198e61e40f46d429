/**
 * Hooks: what the operator wants done before and after phases. Which places take one is decided here:
 * - None under the lease of the freeze (from FREEZE's end to SUSPEND_SOURCE's begin): a hook that takes its time would let the lease lapse, and void the switchover.
 *   A hook that flushes a database comes BEFORE FREEZE; one that runs while the source stands still comes AFTER SUSPEND_SOURCE, and counts as downtime.
 * - A command runs in the source guest, by the migration agent: once it is connected (AFTER CONNECT_AGENTS) until the freeze begins (BEFORE FREEZE).
 * - After the commit there is only forward: such a hook may be tried again, and can't fail the migration.
 */
import { phasesBetween, type MigrationPhase } from './migration.ts'

export const hookMoments = ['BEFORE', 'AFTER'] as const
export type HookMoment = (typeof hookMoments)[number]

export const hookPolicies = ['FAIL', 'IGNORE'] as const
/** What happens when a hook has failed and has no retries left: the migration is undone, or goes on. */
export type HookPolicy = (typeof hookPolicies)[number]

export interface Hook {
  /** The operator's, unique within a migration. */
  name: string
  phase: MigrationPhase
  when: HookMoment
  /** Of one try, milliseconds. */
  timeoutMs: number
  /** Further tries after the first. */
  retries: number
  onFailure: HookPolicy
  /** Program and arguments, run in the source guest as root; no shell but where the operator names one. Or an HTTP POST, signed with a secret that is kept sealed under its name. */
  action: { kind: 'COMMAND'; command: string[] } | { kind: 'WEBHOOK'; url: string; secretName: string }
}

export const hookLimits = { hooks: 32, timeoutMs: 600_000, retries: 10, arguments: 64, commandBytes: 16_384, urlBytes: 2_048 } as const

/** What a guest's or a webhook's answer is cut to before it is kept. */
export const keptOutputBytes = 2_048

/** The phases from which on nothing is undone. */
const forwardOnly: ReadonlySet<MigrationPhase> = new Set(['EXPOSE', 'RETIRE_SOURCE', 'CLEAN_UP'])
const wholePhaseUnderLease: ReadonlySet<MigrationPhase> = new Set(['SEND_REMAINDER', 'COMPARE_ROOTS'])
const withAgentThroughout: ReadonlySet<MigrationPhase> = new Set(['TRACK_CHANGES', 'SYNC', 'READY_TO_CUT_OVER', 'ARM_FENCE'])
/** Where a migration goes through in any case; other phases belong to its ways back. */
const onTheWay: ReadonlySet<MigrationPhase> = new Set(phasesBetween('PRE_FLIGHT', 'CLEAN_UP').filter((phase) => phase !== 'ADMISSION'))

/** Whether nothing that happens there leads back. */
export function isAfterCommit(phase: MigrationPhase, when: HookMoment): boolean {
  return forwardOnly.has(phase) || (phase === 'COMMIT' && when === 'AFTER')
}

/** Why the hook can't be where it is, completing "The hook ..."; null when it can. */
export function hookRefusal({ phase, when, action, onFailure }: Hook): string | null {
  if (!onTheWay.has(phase)) return `names the phase ${phase}, which takes none`
  const underLease =
    wholePhaseUnderLease.has(phase) || (phase === 'FREEZE' && when === 'AFTER') || (phase === 'SUSPEND_SOURCE' && when === 'BEFORE')
  if (underLease)
    return 'would run while the source is frozen under a lease, which it could let lapse; use BEFORE FREEZE or AFTER SUSPEND_SOURCE'
  const agent =
    withAgentThroughout.has(phase) || (phase === 'CONNECT_AGENTS' && when === 'AFTER') || (phase === 'FREEZE' && when === 'BEFORE')
  if (action.kind === 'COMMAND' && !agent)
    return 'is a command in the guest, where the migration agent runs from AFTER CONNECT_AGENTS to BEFORE FREEZE only; use a webhook'
  if (onFailure === 'FAIL' && isAfterCommit(phase, when))
    return 'has the policy FAIL after the commit, where nothing can be undone any more; use IGNORE, with retries'
  return null
}
