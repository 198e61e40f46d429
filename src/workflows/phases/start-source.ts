import { done, type Phase } from '../phase.ts'
import { sourceVmId } from './phase-facts.ts'

/** It boots from its disk as it was at the freeze. */
export const startSource: Phase = {
  name: 'START_SOURCE',
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    const { signal, migration } = context
    const { virtualMachines } = await context.source()
    const vmId = sourceVmId(context)
    // An id of its own for each look, since the same start would be answered as done after a power loss in between.
    if ((await virtualMachines.describe({ vmId, signal })).power !== 'RUNNING')
      await virtualMachines.start({ operationId: context.operationId(`start.${Date.now()}`), vmId, signal })
    await context.settings.refreshTopology(migration.sourceCloudId, signal)
    // What is left at the destination, if anything, is a copy again: off, fenced, and the operator's to discard.
    await context.store.write(migration, { patch: { copyKept: !context.results.STOP_DESTINATION?.gone } })
    return done
  },
  // A rollback only goes forward.
  undo: null,
}
