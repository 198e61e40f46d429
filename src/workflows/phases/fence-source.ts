import { ProviderError } from '../../plugin-sdk/index.ts'
import { done, type Phase, type PhaseContext } from '../phase.ts'
import { fenceIdOf, releaseSource } from './arm-fence.ts'
import { sourceVmId } from './phase-facts.ts'

/** Nothing may resume the source once the commit is on its way. */
export const fenceSource: Phase = {
  name: 'FENCE_SOURCE',
  control: 'CANCELLABLE',
  timeoutMs: null,
  async do(context) {
    const armed = (context.results.ARM_FENCE?.strength ?? null) !== null
    try {
      await fence(context, armed)
    } catch (error) {
      // Armed, and suspended under a freeze that held: whatever befell its site, it doesn't start by itself.
      if (!armed || !(error instanceof ProviderError && error.code === 'UNREACHABLE')) throw error
      await context.note(
        `The source's site can't be reached any more (${error.message}). Its fence was armed and it was suspended, so it can't come back by itself.`,
      )
    }
    return done
  },
  undo: releaseSource,
}

async function fence(context: PhaseContext, armed: boolean): Promise<void> {
  const { signal } = context
  const { fencing, virtualMachines } = await context.source()
  const vmId = sourceVmId(context)
  if (!fencing || !armed) {
    const { power } = await virtualMachines.describe({ vmId, signal })
    if (power === 'SUSPENDED' || power === 'STOPPED') return
    throw new ProviderError('CONFLICT', `The source is ${power} though it was suspended.`, {
      retryable: false,
      remedy: 'Find out who resumed it, then retry the migration.',
    })
  }
  await fencing.fence({ operationId: context.operationId('fence'), vmId, fenceId: fenceIdOf(context), signal })
  const state = await fencing.confirm({ vmId, signal })
  if (state.fenced && state.fenceId === fenceIdOf(context)) return
  throw new ProviderError('CONFLICT', `The source's fence is not in force (power ${state.power}).`, {
    retryable: true,
    remedy: 'See who releases fences at its site.',
  })
}
