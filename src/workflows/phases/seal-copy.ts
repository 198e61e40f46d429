import type { Phase } from '../phase.ts'
import { destinationVmId } from './phase-facts.ts'

/** The copied disk stays as it was verified; what follows writes to an overlay. */
export const sealCopy: Phase = {
  name: 'SEAL_COPY',
  control: 'CANCELLABLE',
  timeoutMs: 2 * 60_000,
  async do(context) {
    const { destination } = await context.destination()
    await destination.sealCopiedDisks({ operationId: context.operationId('seal'), vmId: destinationVmId(context), signal: context.signal })
    return { outcome: 'DONE', result: { sealedAt: Date.now() } }
  },
  // The way back from here ends at the start, where the destination's VM is deleted with all its disks. Waiting for it first would keep the source standing.
  undo: null,
}
