import { downtimeParts } from '../../domain/downtime.ts'
import { done, type Phase } from '../phase.ts'
import { destinationVmId, resultOf } from './phase-facts.ts'

/** The destination is the live copy from here on. */
export const expose: Phase = {
  name: 'EXPOSE',
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    const { network } = await context.destination()
    await network.expose({ operationId: context.operationId('expose'), vmId: destinationVmId(context), signal: context.signal })
    const { freezingAt, frozenAt } = resultOf(context, 'FREEZE')
    const downtime = downtimeParts({
      freezing: freezingAt,
      frozen: frozenAt,
      remainderSent: resultOf(context, 'SEND_REMAINDER').sentAt,
      verified: resultOf(context, 'SEAL_COPY').sealedAt,
      answering: resultOf(context, 'HEALTH_CHECK').answeringAt,
      exposed: Date.now(),
    })
    await context.store.write(context.migration, { patch: { downtime } })
    return done
  },
  // After the commit there is no way back.
  undo: null,
}
