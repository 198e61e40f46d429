import { done, type Phase } from '../phase.ts'
import { destinationVmId } from './phase-facts.ts'
import { wakeDestination } from './wake-destination.ts'

/** The overlay goes into the disk, the landing image is forgotten; certificates and lock go with the migration's end. */
export const cleanUp: Phase = {
  name: 'CLEAN_UP',
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    const { signal } = context
    const { destination, virtualMachines } = await context.destination()
    const vmId = destinationVmId(context)
    await destination.flattenOverlay({ operationId: context.operationId('flatten'), vmId, signal })
    // Held for want of room since the exposure. Off, it was switched off by its owner, and stays so.
    if ((await virtualMachines.describe({ vmId, signal })).power === 'SUSPENDED') await wakeDestination(context)
    await context.settings.refreshTopology(context.migration.destinationCloudId, context.signal)
    return done
  },
  // After the commit there is no way back.
  undo: null,
}
