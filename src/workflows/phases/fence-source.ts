import { ProviderError } from '../../plugin-sdk/index.ts'
import { done, type Phase, type PhaseContext } from '../phase.ts'
import { fenceIdOf, releaseSource } from './arm-fence.ts'
import { sourceVmId } from './phase-facts.ts'

/** Before the commit: the fence that was closed at the suspension is still in force, and the source hasn't run since. */
export const fenceSource: Phase = {
  name: 'FENCE_SOURCE',
  atSource: true,
  control: 'CANCELLABLE',
  timeoutMs: null,
  async do(context) {
    try {
      if (isArmed(context)) await requireClosed(context)
      else await requireNotRunning(context)
    } catch (error) {
      if (!isArmed(context) || !(error instanceof ProviderError && error.code === 'UNREACHABLE')) throw error
      await context.note(
        `The source's site can't be reached any more (${error.message}). Its fence was closed while it was frozen, so it can't come back by itself.`,
      )
    }
    return done
  },
  undo: releaseSource,
}

/** Right after the suspension: nobody may resume it. Nothing to do where the source's provider can't fence. */
export async function closeFence(context: PhaseContext): Promise<void> {
  if (!isArmed(context)) return
  const { fencing } = await context.source()
  const { signal } = context
  await fencing?.fence({ operationId: context.operationId('fence'), vmId: sourceVmId(context), fenceId: fenceIdOf(context), signal })
  await requireClosed(context)
}

function isArmed(context: PhaseContext): boolean {
  return (context.results.ARM_FENCE?.strength ?? null) !== null
}

/** Throws CONFLICT, and nothing is retried in place: the freeze doesn't wait, and a source that ran has written what its copy lacks. */
async function requireClosed(context: PhaseContext): Promise<void> {
  const { fencing } = await context.source()
  const state = await fencing?.confirm({ vmId: sourceVmId(context), signal: context.signal })
  if (state?.fenced && state.fenceId === fenceIdOf(context)) return
  throw new ProviderError('CONFLICT', `The source's fence is not in force (the source is ${state?.power ?? 'UNKNOWN'}).`, {
    retryable: false,
    remedy: 'See who resumes machines or releases fences at its site, then retry the migration.',
  })
}

async function requireNotRunning(context: PhaseContext): Promise<void> {
  const { virtualMachines } = await context.source()
  const { power } = await virtualMachines.describe({ vmId: sourceVmId(context), signal: context.signal })
  if (power === 'SUSPENDED' || power === 'STOPPED') return
  throw new ProviderError('CONFLICT', `The source is ${power} though it was suspended.`, {
    retryable: false,
    remedy: 'Find out who resumed it, then retry the migration.',
  })
}
