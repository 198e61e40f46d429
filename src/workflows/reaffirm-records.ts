import { randomUUID } from 'node:crypto'
import { attemptKeyPrefix } from '../domain/migration-record.ts'
import { decideVerdict } from '../domain/verdict.ts'
import type { SafeAction } from '../domain/verdict-actions.ts'
import { ProviderError } from '../plugin-sdk/index.ts'
import type { MachineVerdict } from './verdict-reader.ts'
import { attemptsIn } from './verdict-records.ts'

/**
 * Right before each deed of a verdict. False: its records say something else by now; the power and the fences were read after them, so somebody may have gone on in between.
 * What decided is put once more, since whoever wrote it may have been killed before it was durable.
 * A full disk there doesn't keep the source from its fence: were the commit lost after all, that fence is released again; nothing takes back what two live copies did.
 */
export async function reaffirmRecords(verdict: MachineVerdict, action: SafeAction, signal: AbortSignal): Promise<boolean> {
  const { migrationId, attempt, standing, destination } = verdict
  const records = destination.connection?.records
  const [now] = attemptsIn((await records?.list({ keyPrefix: attemptKeyPrefix({ migrationId, attempt }), signal })) ?? [])
  if (!records || !now || now.records.outcome !== standing.outcome || decideVerdict(now.records).row !== standing.row) return false
  for (const record of [now.found.outcome, now.found['rolled-back']])
    if (record)
      await records.put({ operationId: `reconcile.${record.key}.again.${randomUUID()}`, record, signal }).catch((error: unknown) => {
        const isFull = error instanceof ProviderError && error.code === 'INSUFFICIENT_CAPACITY'
        if (!isFull || action !== 'FENCE_SOURCE') throw error
      })
  return true
}
