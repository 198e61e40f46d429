import { ProviderError } from '../../plugin-sdk/index.ts'
import type { PhaseContext } from '../phase.ts'
import { destinationVmId } from './phase-facts.ts'

/**
 * It may have lost its power after the commit, or be held by its hypervisor since a write found no room: it is the live copy all the same, and goes on from its own disk.
 * Returns once it was seen running. Throws ProviderError CONFLICT, retryable, while it does not run.
 */
export async function wakeDestination(context: PhaseContext): Promise<void> {
  const { signal } = context
  const { virtualMachines } = await context.destination()
  const vmId = destinationVmId(context)
  const powerNow = async () => (await virtualMachines.describe({ vmId, signal })).power
  // An id of its own for each look, since the same start would be answered as done after a second power loss.
  const operation = { operationId: context.operationId(`wake.${Date.now()}`), vmId, signal }
  const power = await powerNow()
  if (power === 'RUNNING') return
  if (power === 'STOPPED') await virtualMachines.start(operation)
  if (power === 'SUSPENDED') await virtualMachines.resume(operation)
  const woken = await powerNow()
  if (woken === 'RUNNING') return
  throw new ProviderError('CONFLICT', `The destination ${vmId} has taken over and is ${woken}: it does not run on.`, {
    retryable: true,
    remedy: 'See that its storage has room and that its host works; it is tried again.',
    path: ['vmId'],
  })
}
