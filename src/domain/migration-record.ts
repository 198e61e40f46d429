/** The records of a migration at its destination's site (requirements D), by key: `migration.<migration id>.<attempt>.<kind>`. */

/**
 * `started` before anything is made there; `placeholder` once the VM with the source's unique id is there; `outcome` ends the attempt, first writer wins: COMMITTED is
 * the completed event and the commit, ABANDONED its contrary; `completed` after the exposure; `rolled-back` once a rollback stopped and fenced the destination's VM.
 */
export const recordKinds = ['started', 'placeholder', 'outcome', 'completed', 'rolled-back'] as const
export type RecordKind = (typeof recordKinds)[number]

export const outcomes = ['COMMITTED', 'ABANDONED'] as const
export type Outcome = (typeof outcomes)[number]

export interface RecordName {
  migrationId: string
  /** From 1. */
  attempt: number
  kind: RecordKind
}

/** What the keys of all migrations' records begin with. */
export const recordKeyPrefix = 'migration.'

/** What the keys of one attempt's records begin with. */
export function attemptKeyPrefix({ migrationId, attempt }: Omit<RecordName, 'kind'>): string {
  return `${recordKeyPrefix}${migrationId}.${attempt}.`
}

export function recordKey({ kind, ...attempt }: RecordName): string {
  return attemptKeyPrefix(attempt) + kind
}

/** Null for a key that no version of ours wrote. */
export function parseRecordKey(key: string): RecordName | null {
  const match = /^migration\.([^.]+)\.([1-9]\d{0,8})\.([a-z-]+)$/.exec(key)
  const kind = recordKinds.find((known) => known === match?.[3])
  return match && kind ? { migrationId: match[1]!, attempt: Number(match[2]), kind } : null
}
