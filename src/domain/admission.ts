/**
 * How many migrations copy at once, and whose turn it is. Pure: src/workflows/admission.ts keeps the queue.
 *
 * A migration takes one slot of everything it needs at once, or waits. Order of arrival counts wherever two want the same: who waits reserves what it needs, so a later
 * one passes only where that takes nothing from those before it, and nobody waits for ever.
 */
import type { MigrationDirection, MigrationPhase, MigrationState } from './migration.ts'

export const concurrencyScopes = ['CLOUD', 'HOST', 'DISK'] as const
/** CLOUD counts migrations from and to a cloud, HOST from and to a host, DISK those that read from one storage. */
export type ConcurrencyScope = (typeof concurrencyScopes)[number]

/** Where nobody set others. */
export const defaultConcurrencyLimits: Readonly<Record<ConcurrencyScope, number>> = { CLOUD: 8, HOST: 4, DISK: 4 }

/** What a slot is of: `CLOUD:<row id>` and so on. */
export type Need = `${ConcurrencyScope}:${string}`

export interface Applicant {
  migrationId: string
  needs: readonly Need[]
  state: 'WAITING' | 'ADMITTED'
  /** Admitted: it copies still. Waiting: it would begin at once. One that is paused, or whose control plane is gone, neither takes nor reserves. */
  active: boolean
}

export interface Standing {
  admitted: boolean
  /** Its place among those that wait, from 1; 0 where it doesn't. */
  position: number
  /** What it lacks at present; empty once it is admitted. */
  lacks: readonly Need[]
}

/** `applicants` in order of arrival. Gives all of them their standing, those too that are admitted now. */
export function decideAdmissions(applicants: readonly Applicant[], limitOf: (need: Need) => number): Map<string, Standing> {
  const taken = new Map<Need, number>()
  const take = (needs: readonly Need[]) => {
    for (const need of needs) taken.set(need, (taken.get(need) ?? 0) + 1)
  }
  for (const { state, active, needs } of applicants) if (state === 'ADMITTED' && active) take(needs)
  const standings = new Map<string, Standing>()
  let position = 0
  for (const { migrationId, needs, state, active } of applicants) {
    if (state === 'ADMITTED') {
      standings.set(migrationId, { admitted: true, position: 0, lacks: [] })
      continue
    }
    const lacks = needs.filter((need) => (taken.get(need) ?? 0) >= limitOf(need))
    const admitted = active && lacks.length === 0
    standings.set(migrationId, { admitted, position: admitted ? 0 : ++position, lacks })
    if (active) take(needs)
  }
  return standings
}

const copying: ReadonlySet<MigrationPhase> = new Set([
  'PRE_FLIGHT',
  'ADMISSION',
  'INSTANTIATE_DESTINATION',
  'INSTALL_AGENTS',
  'CONNECT_AGENTS',
  'TRACK_CHANGES',
  'SYNC',
])

/**
 * Whether an admitted migration holds its slot: until it is READY_TO_CUT_OVER, on its way back, or at its end. One that is paused keeps it. Those that wait for their
 * cutover hold none, since what they wait for may itself wait for a slot.
 */
export function holdsSlot(migration: { state: MigrationState; phase: MigrationPhase; direction: MigrationDirection }): boolean {
  const { state, phase, direction } = migration
  return (state === 'PENDING' || state === 'RUNNING' || state === 'PAUSED') && direction === 'FORWARD' && copying.has(phase)
}
