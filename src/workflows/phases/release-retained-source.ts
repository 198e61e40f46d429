import { done, type Phase } from '../phase.ts'
import { fenceAt } from '../rollback-check.ts'
import { sourceVmId } from './phase-facts.ts'

export const releaseRetainedSource: Phase = {
  name: 'RELEASE_SOURCE',
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    const { signal, migration } = context
    const site = await context.source()
    const vmId = sourceVmId(context)
    const fence = await fenceAt(site, vmId, migration, signal)
    if (fence?.isOwn) await site.fencing?.release({ operationId: context.operationId('release'), vmId, fenceId: fence.id, signal })
    return done
  },
  // A rollback only goes forward.
  undo: null,
}
