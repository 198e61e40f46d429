import { done, type Phase, type PhaseContext } from '../phase.ts'
import { attemptFenceId, isFenceOfAttempt } from '../../domain/fence-id.ts'
import type { ProviderConnection } from '../../plugin-sdk/index.ts'
import { fenceIdOf } from './arm-fence.ts'
import { sourceVmId } from './phase-facts.ts'

/**
 * Off, and kept: its disk is as it was at the freeze, and its fence stays, so that nobody starts it beside its successor. What the agent had was in its memory, which goes
 * with it.
 */
export const retireSource: Phase = {
  name: 'RETIRE_SOURCE',
  atSource: true,
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    const { signal } = context
    const { virtualMachines, fencing } = await context.source()
    const vmId = sourceVmId(context)
    // Whatever befell it since the commit: before it can run, it is fenced.
    if (fencing && context.results.ARM_FENCE?.strength)
      await fencing.fence({ operationId: context.operationId('fence'), vmId, fenceId: await heldFenceId(context, fencing), signal })
    await virtualMachines.stop({ operationId: context.operationId('stop'), vmId, force: true, signal })
    await context.settings.refreshTopology(context.migration.sourceCloudId, signal)
    return done
  },
  // After the commit there is no way back.
  undo: null,
}

/** Rows that a backup brought back may know an earlier switchover than the one that was committed. */
async function heldFenceId(context: PhaseContext, fencing: NonNullable<ProviderConnection['fencing']>): Promise<string> {
  const { fenceId } = await fencing.confirm({ vmId: sourceVmId(context), signal: context.signal })
  return fenceId !== null && isFenceOfAttempt(fenceId, attemptFenceId(context.migration)) ? fenceId : fenceIdOf(context)
}
