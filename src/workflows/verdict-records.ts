/** Reads a site's records as attempts to move virtual machines: of this control plane, of one whose database was lost, or of another one. */
import { parseRecordKey, type Outcome, type RecordKind } from '../domain/migration-record.ts'
import { decideVerdict, type DatedAttempt } from '../domain/verdict.ts'
import type { SiteRecord } from '../plugin-sdk/index.ts'

export interface SiteAttempt extends DatedAttempt {
  migrationId: string
  /** Of the started record, else of whichever record names one. */
  uniqueId: string | null
  /** As the control plane that began it knew the source; null where the records don't tell. */
  sourceCloudId: string | null
  sourceVmId: string | null
  /** The migration whose writes it carries back, by the started record. */
  rollsBack: string | null
  /** The provider's id of the destination's machine, once there is one. */
  vmId: string | null
  /** Those that are there, those about another machine included. */
  found: Partial<Record<RecordKind, SiteRecord>>
}

export function attemptsIn(records: readonly SiteRecord[]): SiteAttempt[] {
  const byAttempt = new Map<string, { migrationId: string; attempt: number; found: SiteAttempt['found'] }>()
  for (const record of records) {
    const name = parseRecordKey(record.key)
    // Others may write at that site, too: what is no record of ours says nothing, and hides nothing.
    if (!name || !isContent(record.content)) continue
    const { migrationId, attempt, kind } = name
    const key = `${migrationId}.${attempt}`
    const known = byAttempt.get(key) ?? { migrationId, attempt, found: {} }
    known.found[kind] = record
    byAttempt.set(key, known)
  }
  return [...byAttempt.values()].map(readAttempt)
}

/** Whether the record is about the attempt's own machine. Names are never compared. */
export function isOfMachine(record: SiteRecord | undefined, uniqueId: string | null): boolean {
  return record !== undefined && uniqueId !== null && text(record, 'uniqueId') === uniqueId
}

/**
 * Whether a site's machine may be the one that `judged` moved away from there, by that site's records: then when the migration began that had brought it there, -Infinity where none did. Null for
 * a copy, which a migration made that had not moved it there by then.
 */
export function livedThereSince(attempts: readonly SiteAttempt[], vmId: string | null, judged: SiteAttempt): number | null {
  const isEarlier = ({ startedAt }: SiteAttempt) => startedAt < judged.startedAt
  // What `judged` itself rolled back lived there when it began.
  const moved = ({ records, migrationId }: SiteAttempt) =>
    decideVerdict(records).verdict === 'MIGRATED' || (records.rolledBack && judged.rollsBack === migrationId)
  // One that carries writes back makes no machine: until its commit it changes nothing.
  const makers = attempts.filter(
    (attempt) => attempt.uniqueId === judged.uniqueId && (attempt.rollsBack === null || (isEarlier(attempt) && moved(attempt))),
  )
  const named = makers.filter((attempt) => attempt.vmId !== null && (vmId === null || attempt.vmId === vmId))
  // One that was killed before it could name the machine that it made.
  const about = named.length > 0 ? named : makers.filter((attempt) => attempt.vmId === null)
  if (about.length === 0) return -Infinity
  const [last] = about.filter(isEarlier).toSorted((one, other) => other.startedAt - one.startedAt || other.attempt - one.attempt)
  return last && moved(last) ? last.startedAt : null
}

function readAttempt({ migrationId, attempt, found }: Pick<SiteAttempt, 'migrationId' | 'attempt' | 'found'>): SiteAttempt {
  const all = Object.values(found)
  const uniqueId = text(found.started, 'uniqueId') ?? all.map((record) => text(record, 'uniqueId')).find((id) => id !== null) ?? null
  const matching = (record: SiteRecord | undefined) => (isOfMachine(record, uniqueId) ? record : undefined)
  return {
    migrationId,
    attempt,
    uniqueId,
    startedAt: Math.min(...[found.started ?? all].flat().map(({ writtenAt }) => Date.parse(writtenAt) || 0)),
    sourceCloudId: text(found.started, 'sourceCloudId'),
    sourceVmId: text(found.started, 'sourceVmId'),
    rollsBack: text(found.started, 'rollsBack'),
    vmId: text(matching(found.placeholder), 'vmId') ?? text(matching(found.outcome), 'vmId'),
    records: {
      started: found.started !== undefined && uniqueId !== null,
      placeholder: isOfMachine(found.placeholder, uniqueId),
      outcome: outcomeOf(found.outcome, uniqueId),
      completed: isOfMachine(found.completed, uniqueId),
      rolledBack: isOfMachine(found['rolled-back'], uniqueId),
    },
    found,
  }
}

/** An abandoned attempt may have had no machine to name; a commit has to be about this one. */
function outcomeOf(record: SiteRecord | undefined, uniqueId: string | null): Outcome | null {
  const decision = text(record, 'decision')
  if (decision === 'ABANDONED') return 'ABANDONED'
  return decision === 'COMMITTED' && isOfMachine(record, uniqueId) ? 'COMMITTED' : null
}

function text(record: SiteRecord | undefined, name: string): string | null {
  const value = record?.content[name]
  return typeof value === 'string' ? value : null
}

function isContent(content: unknown): boolean {
  return typeof content === 'object' && content !== null
}
