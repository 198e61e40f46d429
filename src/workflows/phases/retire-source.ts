import { done, type Phase } from '../phase.ts'
import { sourceVmId } from './phase-facts.ts'

/** Off, and kept: its disk is as it was at the freeze. What the agent had was in its memory, which goes with it. */
export const retireSource: Phase = {
  name: 'RETIRE_SOURCE',
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    const { virtualMachines } = await context.source()
    await virtualMachines.stop({ operationId: context.operationId('stop'), vmId: sourceVmId(context), force: true, signal: context.signal })
    await context.settings.refreshTopology(context.migration.sourceCloudId, context.signal)
    return done
  },
  // After the commit there is no way back.
  undo: null,
}
