/**
 * What the destination's site remembers of an attempt, readable without us and without the source. The outcome is written once: the record's key decides
 * between COMMITTED and ABANDONED, whoever comes second gets a CONFLICT.
 */
import { recordKey, recordKeyPrefix, type Outcome, type RecordKind } from '../../domain/migration-record.ts'
import { ProviderError, type ProviderConnection, type SiteRecord } from '../../plugin-sdk/index.ts'
import type { MigrationRow } from '../migration-store.ts'
import type { PhaseContext } from '../phase.ts'
import { attemptsIn } from '../verdict-records.ts'
import { sourceVmId } from './phase-facts.ts'

/** Durable when it returns. `started`: before anything is made at the destination, since without it no migration begins. */
export async function putRecord(
  context: PhaseContext,
  kind: Exclude<RecordKind, 'outcome'>,
  of: { uniqueId: string; vmId?: string },
): Promise<void> {
  const { migration } = context
  const origin = {
    sourceCloudId: migration.sourceCloudId,
    sourceVmId: sourceVmId(context),
  }
  const { rollsBackMigrationId: rollsBack } = migration
  if (kind !== 'started') return put(context, kind, { ...of })
  await put(context, kind, { ...origin, ...(rollsBack !== null && { rollsBack }), ...of }, await afterAllBefore(context, of.uniqueId))
}

/**
 * Which of a machine's migrations is the later one is told by their started records, so this one's is later than all that either site has of the machine, whatever our clock
 * says (a logical clock: Lamport, Time, Clocks, and the Ordering of Events in a Distributed System, 1978). The machine lives at the source, so the last migration that moved it left its record there.
 */
async function afterAllBefore(context: PhaseContext, uniqueId: string): Promise<Date> {
  const sites = await Promise.all([context.source(), context.destination()])
  const lists = await Promise.all(sites.map(({ records }) => records.list({ keyPrefix: recordKeyPrefix, signal: context.signal })))
  const before = attemptsIn(lists.flat()).filter((attempt) => attempt.uniqueId === uniqueId)
  return new Date(Math.max(Date.now(), ...before.map(({ startedAt }) => startedAt + 1)))
}

/** At the site that another migration went to, which is the one that this one leaves: its VM there is the live copy no more. */
export async function putRollbackOf(context: PhaseContext, of: MigrationRow, uniqueId: string): Promise<void> {
  const { records } = await context.source()
  await putAt(records, context, of, 'rolled-back', { uniqueId, vmId: sourceVmId(context) })
}

/** Returns what is decided now, which may be the other thing. Throws when the site can't be asked: then nothing is known. */
export async function decide(context: PhaseContext, decision: Outcome): Promise<Outcome> {
  const { uniqueId = null, vmId = null } = context.results.INSTANTIATE_DESTINATION ?? {}
  try {
    await put(context, 'outcome', { decision, uniqueId, vmId })
    return decision
  } catch (error) {
    if (!(error instanceof ProviderError && error.code === 'CONFLICT')) throw error
  }
  const found = await find(context, 'outcome')
  const decided = found?.content['decision']
  if (found && (decided === 'COMMITTED' || decided === 'ABANDONED')) {
    // Whoever wrote it may have been killed before it was durable.
    const { records } = await context.destination()
    await records.put({ operationId: context.operationId(`outcome.${decided}.again`), signal: context.signal, record: found })
    return decided
  }
  throw new Error(`The destination refused the outcome of migration ${context.migration.id} as a conflict, and shows no outcome.`)
}

/** When a record that is there was written first. */
export async function writtenAt(context: PhaseContext, kind: RecordKind): Promise<Date> {
  return new Date((await find(context, kind))?.writtenAt ?? Date.now())
}

/** Where the attempt's completed event is, if it is. */
export function completedEventKey(context: PhaseContext): string {
  return keyOf(context, 'outcome')
}

async function find(context: PhaseContext, kind: RecordKind): Promise<SiteRecord | undefined> {
  const key = keyOf(context, kind)
  const { records } = await context.destination()
  return (await records.list({ keyPrefix: key, signal: context.signal })).find((record) => record.key === key)
}

async function put(context: PhaseContext, kind: RecordKind, content: SiteRecord['content'], writtenAt = new Date()): Promise<void> {
  const { records } = await context.destination()
  await putAt(records, context, context.migration, kind, content, writtenAt)
}

async function putAt(
  records: ProviderConnection['records'],
  context: PhaseContext,
  { id: migrationId, attempt }: MigrationRow,
  kind: RecordKind,
  content: SiteRecord['content'],
  writtenAt = new Date(),
): Promise<void> {
  await records.put({
    operationId: context.operationId(`${kind}.${content['decision'] ?? ''}`),
    signal: context.signal,
    record: {
      key: recordKey({ migrationId, attempt, kind }),
      // A repetition after a crash finds the first one: records are compared by their content alone.
      writtenAt: writtenAt.toISOString(),
      content: { migrationId, attempt, ...content },
    },
  })
}

function keyOf({ migration: { id, attempt } }: PhaseContext, kind: RecordKind): string {
  return recordKey({ migrationId: id, attempt, kind })
}
