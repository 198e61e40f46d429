/**
 * The life of a group of migrations, and what each member is at.
 *
 *   CREATED ─► RUNNING ◄─► PAUSED ─► COMPLETED | FAILED | CANCELLED
 *              RUNNING ◄── COMPLETED | FAILED, when a member is retried
 *
 * A dependency orders cutovers: members copy as soon as there are slots, and a member cuts over once all that it depends on are COMPLETED. A member that ends otherwise
 * stops those that depend on it, and theirs, and nobody else.
 */
import type { DesiredState, MigrationDirection, MigrationPhase, MigrationState } from './migration.ts'

export const groupStates = ['CREATED', 'RUNNING', 'PAUSED', 'COMPLETED', 'FAILED', 'CANCELLED'] as const
export type GroupState = (typeof groupStates)[number]

export const memberStates = [
  'PLANNED',
  'WAITING_FOR_SLOT',
  'RUNNING',
  'PAUSED',
  'WAITING_FOR_DEPENDENCY',
  'READY_TO_CUT_OVER',
  'COMPLETED',
  'FAILED',
  'CANCELLED',
  'ROLLED_BACK',
  'STOPPED_BY_DEPENDENCY',
] as const
export type MemberState = (typeof memberStates)[number]

export interface MemberFacts {
  name: string
  /** Names of members that come before it in the list. */
  dependsOn: readonly string[]
  /** It could not be started, and is not tried again. */
  refused: boolean
  migration: MemberMigration | null
}

export interface MemberMigration {
  state: MigrationState
  phase: MigrationPhase
  direction: MigrationDirection
  /** Set while it goes back, and while something is done with it after its end. */
  endState: 'FAILED' | 'CANCELLED' | 'ROLLED_BACK' | null
}

/** A machine that another migration moves is free again at that one's end: all else that keeps a member from being started stays. */
export function isTriedAgain(refusalCode: string): boolean {
  return refusalCode === 'ALREADY_MIGRATING'
}

export function isGroupEnded(state: GroupState): boolean {
  return state === 'COMPLETED' || state === 'FAILED' || state === 'CANCELLED'
}

export function isMemberEnded(state: MemberState): boolean {
  return state === 'COMPLETED' || stops(state)
}

/** Ended in a way that stops its dependants. */
function stops(state: MemberState): boolean {
  return state === 'FAILED' || state === 'CANCELLED' || state === 'ROLLED_BACK' || state === 'STOPPED_BY_DEPENDENCY'
}

export interface MemberStanding {
  state: MemberState
  /** The first of those that it depends on which ended without being completed; null where there is none. */
  stoppedBy: string | null
  /** Those that it depends on which are not COMPLETED. */
  awaits: readonly string[]
}

/** `members` in an order in which each comes after all that it depends on. */
export function memberStandings(
  group: { state: GroupState; desired: DesiredState },
  members: readonly MemberFacts[],
): Map<string, MemberStanding> {
  const standings = new Map<string, MemberStanding>()
  for (const member of members) {
    const stateOf = (name: string) => standings.get(name)?.state ?? 'FAILED'
    const awaits = member.dependsOn.filter((name) => stateOf(name) !== 'COMPLETED')
    const stoppedBy = member.dependsOn.find((name) => stops(stateOf(name))) ?? null
    standings.set(member.name, { state: memberState(group, member, { awaits, stoppedBy }), stoppedBy, awaits })
  }
  return standings
}

function memberState(
  group: { state: GroupState; desired: DesiredState },
  { refused, migration }: MemberFacts,
  { awaits, stoppedBy }: { awaits: readonly string[]; stoppedBy: string | null },
): MemberState {
  if (!migration) {
    if (refused) return 'FAILED'
    if (group.desired === 'CANCEL') return 'CANCELLED'
    if (stoppedBy !== null) return 'STOPPED_BY_DEPENDENCY'
    return group.state === 'CREATED' ? 'PLANNED' : 'WAITING_FOR_SLOT'
  }
  const { phase, direction, endState } = migration
  const runsAnew = endState !== null && direction === 'FORWARD'
  // A rollback or discard runs the row anew, forward; for the group it has ended, but for a rollback that can still be refused: the member is COMPLETED again then.
  const state = runsAnew && phase !== 'STOP_DESTINATION' ? endState : migration.state
  if (state === 'CANCELLED' && stoppedBy !== null) return 'STOPPED_BY_DEPENDENCY'
  if (state === 'PENDING' || state === 'RUNNING') {
    if (runsAnew || direction !== 'FORWARD') return 'RUNNING'
    if (state === 'PENDING' || phase === 'ADMISSION') return 'WAITING_FOR_SLOT'
    if (phase === 'READY_TO_CUT_OVER') return awaits.length > 0 ? 'WAITING_FOR_DEPENDENCY' : 'READY_TO_CUT_OVER'
    return 'RUNNING'
  }
  return state
}

/** What a group is once all its members have ended; null before. */
export function groupEnd(desired: DesiredState, states: readonly MemberState[]): 'COMPLETED' | 'FAILED' | 'CANCELLED' | null {
  if (!states.every(isMemberEnded)) return null
  if (states.every((state) => state === 'COMPLETED')) return 'COMPLETED'
  return desired === 'CANCEL' ? 'CANCELLED' : 'FAILED'
}
