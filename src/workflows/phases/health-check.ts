import type { Phase } from '../phase.ts'
import { untilHealthy } from '../until-healthy.ts'
import { whileMachineRuns } from '../while-machine-runs.ts'
import { destinationVmId } from './phase-facts.ts'

/** The copied system must answer before anything is committed. */
export const healthCheck: Phase = {
  name: 'HEALTH_CHECK',
  control: 'CANCELLABLE',
  timeoutMs: 60 * 60_000,
  requestedMs: (request) => request.healthCheck.timeoutMs,
  async do(context) {
    const { healthCheck } = context.migration.request
    const answeringAt = await whileMachineRuns(context, 'DESTINATION', (signal) =>
      untilHealthy(context, destinationVmId(context), healthCheck, signal),
    )
    return { outcome: 'DONE', result: { answeringAt } }
  },
  // It only asks.
  undo: null,
}
