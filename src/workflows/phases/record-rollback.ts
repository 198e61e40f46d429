import { done, type Phase } from '../phase.ts'
import { destinationVmId, resultOf } from './phase-facts.ts'
import { putRecord } from './site-records.ts'

/** From here on whoever asks the destination's site is told that the source is the one that lives. */
export const recordRollback: Phase = {
  name: 'RECORD_ROLLBACK',
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    await putRecord(context, 'rolled-back', {
      uniqueId: resultOf(context, 'INSTANTIATE_DESTINATION').uniqueId,
      vmId: destinationVmId(context),
    })
    return done
  },
  // A rollback only goes forward.
  undo: null,
}
