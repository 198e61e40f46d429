import { downtimeParts } from '../../domain/downtime.ts'
import { done, type Phase } from '../phase.ts'
import { destinationVmId, resultOf } from './phase-facts.ts'
import { completedEventKey, putRecord } from './site-records.ts'
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
    const exposedAt = new Date()
    await putRecord(context, 'completed', { uniqueId: resultOf(context, 'INSTANTIATE_DESTINATION').uniqueId, vmId })
    const { freezingAt, frozenAt } = resultOf(context, 'FREEZE')
    const downtime = downtimeParts({
      freezing: freezingAt,
      frozen: frozenAt,
      remainderSent: resultOf(context, 'SEND_REMAINDER').sentAt,
      verified: resultOf(context, 'SEAL_COPY').sealedAt,
      answering: resultOf(context, 'HEALTH_CHECK').answeringAt,
      exposed: exposedAt.getTime(),
    })
    await context.store.write(context.migration, { patch: { downtime, exposedAt } })
    return done
  },
  // After the commit there is no way back.
  undo: null,
}
