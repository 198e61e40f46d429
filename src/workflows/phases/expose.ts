import { downtimeParts } from '../../domain/downtime.ts'
import type { Downtime } from '../../domain/migration.ts'
import { done, type Phase, type PhaseContext } from '../phase.ts'
import { destinationVmId, resultOf } from './phase-facts.ts'
import { completedEventKey, putRecord, writtenAt } from './site-records.ts'
import { wakeDestination } from './wake-destination.ts'

/** The destination is the live copy from here on. */
export const expose: Phase = {
  name: 'EXPOSE',
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    const { signal } = context
    const { network } = await context.destination()
    const vmId = destinationVmId(context)
    await network.expose({ operationId: context.operationId('expose'), vmId, completedEventKey: completedEventKey(context), signal })
    await wakeDestination(context)
    await putRecord(context, 'completed', { uniqueId: resultOf(context, 'INSTANTIATE_DESTINATION').uniqueId, vmId })
    // The first one that was written holds: it may be older than the row, which a backup brought back.
    const exposedAt = await writtenAt(context, 'completed')
    await context.store.write(context.migration, { patch: { downtime: downtimeUntil(context, exposedAt), exposedAt } })
    return done
  },
  // After the commit there is no way back.
  undo: null,
}

/** Null where the rows don't tell: the switchover that was committed is not one that they know. */
function downtimeUntil({ results }: PhaseContext, exposedAt: Date): Downtime | null {
  const { FREEZE, SEND_REMAINDER, SEAL_COPY, HEALTH_CHECK } = results
  if (!FREEZE || !SEND_REMAINDER || !SEAL_COPY || !HEALTH_CHECK) return null
  return downtimeParts({
    freezing: FREEZE.freezingAt,
    frozen: FREEZE.frozenAt,
    remainderSent: SEND_REMAINDER.sentAt,
    verified: SEAL_COPY.sealedAt,
    answering: HEALTH_CHECK.answeringAt,
    exposed: exposedAt.getTime(),
  })
}
