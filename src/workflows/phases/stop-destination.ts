import type { ProviderConnection } from '../../plugin-sdk/index.ts'
import type { PortolanError } from '../../domain/errors.ts'
import { failureOf } from '../failure.ts'
import type { Phase, PhaseContext, PhaseOutcome, PhaseResults } from '../phase.ts'
import { destinationPower, requireBothSides } from '../rollback-check.ts'
import { wait } from '../wait.ts'
import { fenceIdOf } from './arm-fence.ts'
import { destinationVmId } from './phase-facts.ts'

/**
 * Asked to shut down first, so that its file systems are clean; then off for good, its fence closed, before anything starts at the source. The fence is armed before it is
 * asked: with it, whoever finds it off knows that a rollback was under way. Before that it is refused where the source can't be gone back to any more: the request may
 * have waited for days.
 */
export const stopDestination: Phase = {
  name: 'STOP_DESTINATION',
  control: 'FORWARD_ONLY',
  timeoutMs: null,
  async do(context) {
    if (!context.results.STOP_DESTINATION) {
      const error = await refusalOf(context)
      if (error) return { outcome: 'REFUSED', error, state: 'COMPLETED' }
      await context.keep('STOP_DESTINATION', { gone: false })
    }
    const power = await destinationPower(context)
    if (power === null) {
      await context.note('The destination is gone from its cloud, so there is nothing to shut down.')
      return stopped({ gone: true })
    }
    await stop(context, await context.destination(), power)
    await context.settings.refreshTopology(context.migration.destinationCloudId, context.signal)
    return stopped({ gone: false })
  },
  // A rollback only goes forward: between two machines that are off there is nothing to return to.
  undo: null,
}

async function stop(context: PhaseContext, { virtualMachines, fencing }: ProviderConnection, power: string): Promise<void> {
  const { signal } = context
  const vmId = destinationVmId(context)
  const fenceId = fenceIdOf(context)
  if (power !== 'STOPPED' && power !== 'SUSPENDED') {
    await fencing?.arm({ operationId: context.operationId('arm'), vmId, fenceId, signal })
    await virtualMachines
      .stop({ operationId: context.operationId('ask'), vmId, force: false, signal })
      .catch(() => context.note('The destination did not shut down when asked; its power is cut.'))
  }
  await fencing?.fence({ operationId: context.operationId('fence'), vmId, fenceId, signal })
  await virtualMachines.stop({ operationId: context.operationId('stop'), vmId, force: true, signal })
}

/** Why the rollback can't begin; null where it can. What may pass is waited for as long as lost agents are: the request was accepted. */
async function refusalOf(context: PhaseContext): Promise<PortolanError | null> {
  const { firstRetryMs, maxRetryMs, lostMs } = context.settings.timings
  const until = performance.now() + lostMs
  for (let delayMs = firstRetryMs; ; delayMs = Math.min(delayMs * 2, maxRetryMs)) {
    try {
      await requireBothSides(context)
      return null
    } catch (error) {
      context.signal.throwIfAborted()
      const failure = failureOf(error)
      if (failure.code === 'CONFLICT' || failure.code === 'NOT_FOUND' || performance.now() >= until) return failure
      await context.store.write(context.migration, { patch: { problem: `${failure.message} It is tried again.` } })
      await wait(delayMs, context.signal)
    }
  }
}

function stopped(result: PhaseResults['STOP_DESTINATION']): PhaseOutcome {
  return { outcome: 'DONE', result }
}
