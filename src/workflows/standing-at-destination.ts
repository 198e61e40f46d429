/**
 * What the destination holds of an attempt that this process didn't begin. Usually what its row says; but a database that was put back from a backup is older than its
 * clouds: what it takes for a switchover that may be undone may have been committed, exposed, or followed by another attempt since.
 */
import { recordKeyPrefix } from '../domain/migration-record.ts'
import type { PhaseContext } from './phase.ts'
import { attemptsIn } from './verdict-records.ts'

/** OUTDATED: the machine's story has gone on without this attempt, or past it. OPEN: no commit of it is there. */
export type StandingAtDestination = 'OPEN' | 'COMMITTED' | 'OUTDATED'

/** Throws what the provider throws where it can't be asked: then nothing is known. */
export async function standingAtDestination(context: PhaseContext): Promise<StandingAtDestination> {
  const { id, attempt } = context.migration
  const { records } = await context.destination()
  const attempts = attemptsIn(await records.list({ keyPrefix: recordKeyPrefix, signal: context.signal }))
  const own = attempts.find((found) => found.migrationId === id && found.attempt === attempt)
  if (!own) return 'OPEN'
  const begun = attempts.filter(({ records: found }) => found.started)
  const isFollowed = begun.some(({ uniqueId, startedAt }) => uniqueId === own.uniqueId && startedAt > own.startedAt)
  if (isFollowed || own.records.rolledBack) return 'OUTDATED'
  return own.records.outcome === 'COMMITTED' ? 'COMMITTED' : 'OPEN'
}
