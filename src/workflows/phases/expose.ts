import { downtimeParts } from '../../domain/downtime.ts'
import { done, type Phase } from '../phase.ts'
import { destinationVmId, resultOf } from './phase-facts.ts'
import { completedEventKey, putRecord } from './site-records.ts'

/** The destination is the live copy from here on. */
export const expose: Phase = {
  name: 'EXPOSE',
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    const { signal } = context
    const { network, virtualMachines } = await context.destination()
    const vmId = destinationVmId(context)
    await network.expose({ operationId: context.operationId('expose'), vmId, completedEventKey: completedEventKey(context), signal })
    // It may have died after the commit, before or after it was exposed: it is the live copy all the same, and goes on from its own disk. An id of its own for each look,
    // since the same start would be answered as done after a second power loss.
    if ((await virtualMachines.describe({ vmId, signal })).power === 'STOPPED')
      await virtualMachines.start({ operationId: context.operationId(`start.${Date.now()}`), vmId, signal })
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
