import { done, type Phase } from '../phase.ts'
import { destinationVmId } from './phase-facts.ts'

/** The overlay goes into the disk, the landing image is forgotten; certificates and lock go with the migration's end. */
export const cleanUp: Phase = {
  name: 'CLEAN_UP',
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    const { destination } = await context.destination()
    await destination.flattenOverlay({
      operationId: context.operationId('flatten'),
      vmId: destinationVmId(context),
      signal: context.signal,
    })
    await context.settings.refreshTopology(context.migration.destinationCloudId, context.signal)
    return done
  },
  // After the commit there is no way back.
  undo: null,
}
