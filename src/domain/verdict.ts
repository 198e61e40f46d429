/**
 * Whether a virtual machine has been moved, decided from what the destination's site holds and from nothing else (requirements D):
 *
 *   started | completed | placeholder | completed event | verdict        row
 *   no      | -         | -           | -               | NOT_MIGRATED   NOT_STARTED
 *   yes     | yes       | -           | -               | MIGRATED       COMPLETED
 *   yes     | no        | no          | -               | NOT_MIGRATED   NO_PLACEHOLDER
 *   yes     | no        | yes         | no              | NOT_MIGRATED   NO_COMPLETED_EVENT
 *   yes     | no        | yes         | yes             | MIGRATED       COMPLETED_EVENT
 *
 * A rollback's record makes it NOT_MIGRATED again. What could not be read is UNKNOWN, which is no "no".
 */
import type { Outcome } from './migration-record.ts'

export const verdicts = ['MIGRATED', 'NOT_MIGRATED', 'UNKNOWN'] as const
export type Verdict = (typeof verdicts)[number]

export const verdictRows = [
  'NOT_STARTED',
  'COMPLETED',
  'NO_PLACEHOLDER',
  'NO_COMPLETED_EVENT',
  'COMPLETED_EVENT',
  'ROLLED_BACK',
  'UNREADABLE',
] as const
export type VerdictRow = (typeof verdictRows)[number]

/** What was read of one attempt. A record of another virtual machine (by its unique id) counts as absent. */
export interface AttemptRecords {
  started: boolean
  placeholder: boolean
  outcome: Outcome | null
  completed: boolean
  rolledBack: boolean
}

export interface Decided {
  verdict: Verdict
  row: VerdictRow
}

/** Null: the site's records could not be read. */
export function decideVerdict(records: AttemptRecords | null): Decided {
  if (!records) return { verdict: 'UNKNOWN', row: 'UNREADABLE' }
  if (!records.started) return { verdict: 'NOT_MIGRATED', row: 'NOT_STARTED' }
  if (records.rolledBack) return { verdict: 'NOT_MIGRATED', row: 'ROLLED_BACK' }
  if (records.completed) return { verdict: 'MIGRATED', row: 'COMPLETED' }
  if (!records.placeholder) return { verdict: 'NOT_MIGRATED', row: 'NO_PLACEHOLDER' }
  return records.outcome === 'COMMITTED'
    ? { verdict: 'MIGRATED', row: 'COMPLETED_EVENT' }
    : { verdict: 'NOT_MIGRATED', row: 'NO_COMPLETED_EVENT' }
}

/** The commit is there although the table says no: nothing that we write leaves such records, so nothing is done by them. */
export function isContradictory(records: AttemptRecords): boolean {
  const { verdict, row } = decideVerdict(records)
  return verdict === 'NOT_MIGRATED' && row !== 'ROLLED_BACK' && (records.outcome === 'COMMITTED' || records.completed)
}

export interface DatedAttempt {
  attempt: number
  /** When its started record was written, in ms since 1970. */
  startedAt: number
  records: AttemptRecords
}

/**
 * Which of a virtual machine's attempts decides: the newest, unless an older one was committed and not rolled back. `disputed`: a newer one has begun on top of
 * the committed one, so nobody can tell from here which of them the machine at the destination is; another site may hold that it had moved on in between.
 */
export function decidingAttempt<Attempt extends DatedAttempt>(
  attempts: readonly Attempt[],
): { attempt: Attempt; newest: Attempt; disputed: boolean } | null {
  const newestFirst = attempts.toSorted((one, other) => other.startedAt - one.startedAt || other.attempt - one.attempt)
  const newest = newestFirst[0]
  if (!newest) return null
  const attempt = newestFirst.find(({ records }) => decideVerdict(records).verdict === 'MIGRATED') ?? newest
  return { attempt, newest, disputed: attempt !== newest || attempts.some(({ records }) => isContradictory(records)) }
}
