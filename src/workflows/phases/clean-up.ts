import { ProviderError } from '../../plugin-sdk/index.ts'
import { done, type Phase, type PhaseContext } from '../phase.ts'
import { requireCommittedThere } from '../rollback-check.ts'
import { destinationVmId } from './phase-facts.ts'
import { wakeDestination } from './wake-destination.ts'

/** The overlay goes into the disk, the landing image is forgotten; certificates and lock go with the migration's end. */
export const cleanUp: Phase = {
  name: 'CLEAN_UP',
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    try {
      await makeItsOwn(context)
    } catch (error) {
      if (!(error instanceof ProviderError && error.code === 'NOT_FOUND')) throw error
      await requireCommittedThere(await context.destination(), context.migration, context.signal)
      await context.note('The machine was deleted at the destination after it had taken over, so nothing is left to be merged.')
    }
    await context.settings.refreshTopology(context.migration.destinationCloudId, context.signal)
    return done
  },
  // After the commit there is no way back.
  undo: null,
}

async function makeItsOwn(context: PhaseContext): Promise<void> {
  const { signal } = context
  const { destination, virtualMachines } = await context.destination()
  const vmId = destinationVmId(context)
  await destination.flattenOverlay({ operationId: context.operationId('flatten'), vmId, signal })
  // Held for want of room since the exposure. Off, it was switched off by its owner, and stays so.
  if ((await virtualMachines.describe({ vmId, signal })).power === 'SUSPENDED') await wakeDestination(context)
}
