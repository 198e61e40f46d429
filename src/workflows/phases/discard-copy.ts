import { done, type Phase } from '../phase.ts'
import { providerIdOf } from '../row-ids.ts'

export const discardCopy: Phase = {
  name: 'DISCARD_COPY',
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    const { signal, migration } = context
    const { destinationCloudId, destinationVirtualMachineId } = migration
    if (destinationVirtualMachineId) {
      const vmId = providerIdOf(destinationCloudId, destinationVirtualMachineId)
      const { destination } = await context.destination()
      await destination.delete({ operationId: context.operationId('delete'), vmId, signal })
    }
    await context.store.write(migration, { patch: { copyKept: false, destinationVirtualMachineId: null } })
    await context.settings.refreshTopology(destinationCloudId, signal)
    return done
  },
  // What is deleted doesn't come back.
  undo: null,
}
