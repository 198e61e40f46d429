import type { PortolanError } from '../../domain/errors.ts'
import { failureOf } from '../failure.ts'
import { requireKeptCopy } from '../kept-copy-check.ts'
import { done, type Phase, type PhaseContext } from '../phase.ts'
import { providerIdOf } from '../row-ids.ts'

/** Looked at again right before it is deleted: the request may have waited for days. */
export const discardCopy: Phase = {
  name: 'DISCARD_COPY',
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    const { signal, migration } = context
    const { destinationCloudId, destinationVirtualMachineId } = migration
    if (destinationVirtualMachineId) {
      const error = await refusalOf(context)
      if (error) return { outcome: 'REFUSED', error, state: migration.endState ?? 'FAILED' }
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

/** Null where it may go. Throws what may pass: it is looked at again then. */
async function refusalOf(context: PhaseContext): Promise<PortolanError | null> {
  const { migration, signal } = context
  const site = await context.destination()
  try {
    await requireKeptCopy(migration, site, signal)
    return null
  } catch (error) {
    signal.throwIfAborted()
    const failure = failureOf(error)
    if (failure.retryable) throw failure
    return failure
  }
}
