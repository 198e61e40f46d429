import { done, type Phase } from '../phase.ts'
import { destinationVmId } from './phase-facts.ts'

/** In isolation: only this machine reaches it, and it reaches nothing. */
export const bootDestination: Phase = {
  name: 'BOOT_DESTINATION',
  control: 'CANCELLABLE',
  timeoutMs: 5 * 60_000,
  async do(context) {
    const { destination } = await context.destination()
    await destination.bootFromCopiedDisk({
      operationId: context.operationId('boot'),
      vmId: destinationVmId(context),
      signal: context.signal,
    })
    return done
  },
  // It is isolated, so it is no live copy, and it is deleted at the end of the way back. The source needn't wait for that.
  undo: null,
}
