/**
 * What the destination's site remembers of an attempt, readable without us and without the source. The outcome is written once: the record's key decides
 * between COMMITTED and ABANDONED, whoever comes second gets a CONFLICT.
 */
import { ProviderError, type ProviderConnection, type SiteRecord } from '../../plugin-sdk/index.ts'
import type { PhaseContext } from '../phase.ts'
import { providerIdOf } from '../row-ids.ts'

export type Decision = 'COMMITTED' | 'ABANDONED'

/** Durable before anything is made at the destination: without it no migration begins. */
export async function putStartedRecord(context: PhaseContext, destination: ProviderConnection, uniqueId: string): Promise<void> {
  const { migration } = context
  await destination.records.put({
    operationId: context.operationId('started'),
    signal: context.signal,
    record: {
      key: `${keyPrefix(context)}.started`,
      writtenAt: migration.createdAt.toISOString(),
      content: {
        migrationId: migration.id,
        attempt: migration.attempt,
        sourceCloudId: migration.sourceCloudId,
        sourceVmId: providerIdOf(migration.sourceCloudId, migration.sourceVirtualMachineId),
        uniqueId,
      },
    },
  })
}

/** Returns what is decided now, which may be the other thing. Throws when the site can't be asked: then nothing is known. */
export async function decide(context: PhaseContext, decision: Decision): Promise<Decision> {
  const destination = await context.destination()
  const key = `${keyPrefix(context)}.outcome`
  try {
    await destination.records.put({
      operationId: context.operationId(decision.toLowerCase()),
      signal: context.signal,
      record: outcomeRecord(context, key, decision),
    })
    return decision
  } catch (error) {
    if (!(error instanceof ProviderError && error.code === 'CONFLICT')) throw error
  }
  const found = (await destination.records.list({ keyPrefix: key, signal: context.signal })).find((record) => record.key === key)
  const decided = found?.content['decision']
  if (decided === 'COMMITTED' || decided === 'ABANDONED') return decided
  throw new Error(`The destination refused the outcome of migration ${context.migration.id} as a conflict, and shows no outcome.`)
}

function outcomeRecord(context: PhaseContext, key: string, decision: Decision): SiteRecord {
  const { migration } = context
  return {
    key,
    // Of the row, so that a repetition after a crash puts the very same content.
    writtenAt: migration.createdAt.toISOString(),
    content: {
      migrationId: migration.id,
      attempt: migration.attempt,
      decision,
      vmId: context.results.INSTANTIATE_DESTINATION?.vmId ?? null,
    },
  }
}

function keyPrefix({ migration }: PhaseContext): string {
  return `migration.${migration.id}.${migration.attempt}`
}
