import { isFenceOfEarlierAttempt, switchoverFenceId } from '../../domain/fence-id.ts'
import type { ProviderConnection } from '../../plugin-sdk/index.ts'
import { cutoverObstacle } from '../cutover-obstacle.ts'
import type { Phase, PhaseContext } from '../phase.ts'
import { keepThatSourceWasOff } from '../source-off.ts'
import { sourceVmId } from './phase-facts.ts'

/**
 * Before the service may stand still: from now on nothing starts the source anew, neither its host's reboot nor its autostart, so that a source that loses its power
 * in mid-switchover stays off until the attempt has an outcome.
 */
export const armFence: Phase = {
  name: 'ARM_FENCE',
  atSource: true,
  control: 'CANCELLABLE',
  timeoutMs: 2 * 60_000,
  async do(context) {
    // What was said until this phase was entered was granted; from then on a pause is refused.
    const obstacle = await cutoverObstacle(context)
    if (obstacle !== null) return { outcome: 'VOID', reason: obstacle, ownFault: false }
    const { fencing } = await context.source()
    if (!fencing) {
      await context.note(
        "The source's provider can't fence: should its host fail before the commit, an operator has to attest that it is dead.",
      )
      return { outcome: 'DONE', result: { strength: null } }
    }
    await releaseLeftover(context, fencing)
    await fencing.arm({
      operationId: context.operationId('arm'),
      vmId: sourceVmId(context),
      fenceId: fenceIdOf(context),
      signal: context.signal,
    })
    return { outcome: 'DONE', result: { strength: fencing.strength } }
  },
  async undo(context) {
    const armed = await wasArmed(context)
    await releaseSource(context)
    if (armed) await letRunAgain(context)
  },
}

/** Also where it was armed and the control plane ended before it could write that down. */
async function wasArmed(context: PhaseContext): Promise<boolean> {
  if (context.results.ARM_FENCE?.strength) return true
  const { fencing } = await context.source()
  const { fenceId } = (await fencing?.confirm({ vmId: sourceVmId(context), signal: context.signal })) ?? { fenceId: null }
  return fenceId === fenceIdOf(context)
}

/** An earlier attempt whose way back gave up at a source that was attested dead leaves its fence, which would keep this one from being armed. */
async function releaseLeftover(context: PhaseContext, fencing: NonNullable<ProviderConnection['fencing']>): Promise<void> {
  const { signal } = context
  const vmId = sourceVmId(context)
  const { fenceId } = await fencing.confirm({ vmId, signal })
  if (fenceId === null || !isFenceOfEarlierAttempt(fenceId, context.migration)) return
  await context.note('An earlier attempt had left its fence at the source; it is released.')
  await fencing.release({ operationId: context.operationId(`release.${fenceId}`), vmId, fenceId, signal })
}

export function fenceIdOf({ migration }: PhaseContext): string {
  return switchoverFenceId(migration)
}

export async function releaseSource(context: PhaseContext): Promise<void> {
  const { fencing } = await context.source()
  await fencing?.release({
    operationId: context.operationId('release'),
    vmId: sourceVmId(context),
    fenceId: fenceIdOf(context),
    signal: context.signal,
  })
}

/**
 * It ran when the fence was armed; before that nobody but its owner stopped or suspended it. What is off now lost its power, since while armed nothing but us may start it, and nobody
 * else starts it again. What is suspended was suspended by us, and the undo of that was given up while the site was out of reach.
 */
async function letRunAgain(context: PhaseContext): Promise<void> {
  const { virtualMachines } = await context.source()
  const { signal } = context
  const vmId = sourceVmId(context)
  const { power } = await virtualMachines.describe({ vmId, signal })
  if (power === 'STOPPED') {
    await keepThatSourceWasOff(context)
    await context.note('The source lost its power in the switchover; it is started again.')
    await virtualMachines.start({ operationId: context.operationId(`start.${Date.now()}`), vmId, signal })
  }
  if (power === 'SUSPENDED') {
    await context.note('The source was still suspended from the switchover; it is resumed.')
    await virtualMachines.resume({ operationId: context.operationId(`resume.${Date.now()}`), vmId, signal })
  }
}
