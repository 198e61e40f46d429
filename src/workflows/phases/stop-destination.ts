import { done, type Phase } from '../phase.ts'
import { fenceIdOf } from './arm-fence.ts'
import { destinationVmId } from './phase-facts.ts'

/**
 * Asked to shut down first, so that its file systems are clean; then off for good, its fence closed, before anything starts at the source. The fence is armed before it is
 * asked: with it, whoever finds it off knows that a rollback was under way.
 */
export const stopDestination: Phase = {
  name: 'STOP_DESTINATION',
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    const { signal } = context
    const { virtualMachines, fencing } = await context.destination()
    const vmId = destinationVmId(context)
    const fenceId = fenceIdOf(context)
    const { power } = await virtualMachines.describe({ vmId, signal })
    if (power !== 'STOPPED' && power !== 'SUSPENDED') {
      await fencing?.arm({ operationId: context.operationId('arm'), vmId, fenceId, signal })
      await virtualMachines
        .stop({ operationId: context.operationId('ask'), vmId, force: false, signal })
        .catch(() => context.note('The destination did not shut down when asked; its power is cut.'))
    }
    await fencing?.fence({ operationId: context.operationId('fence'), vmId, fenceId, signal })
    await virtualMachines.stop({ operationId: context.operationId('stop'), vmId, force: true, signal })
    await context.settings.refreshTopology(context.migration.destinationCloudId, signal)
    return done
  },
  // A rollback only goes forward: between two machines that are off there is nothing to return to.
  undo: null,
}
