import { ProviderError } from '../../plugin-sdk/index.ts'
import { failureOf, isOutOfReach } from '../failure.ts'
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
    await requireSourceOut(context)
    return done
  },
  undo: releaseSource,
}

/** The service stands still meanwhile, and a site that says nothing has no say. */
const answeredWithinMs = 10_000

/** Throws CONFLICT where the source could go on, and what the provider throws where nobody can tell. */
export async function requireSourceOut(context: PhaseContext): Promise<void> {
  const silence = AbortSignal.timeout(answeredWithinMs)
  const signal = AbortSignal.any([context.signal, silence])
  const over = new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }))
  over.catch(() => {})
  try {
    // Connecting to a site, and ending a call that it doesn't answer, have bounds of their own, which are longer.
    await Promise.race([isArmed(context) ? requireClosed(context, signal) : requireNotRunning(context, signal), over])
  } catch (error) {
    context.signal.throwIfAborted()
    if (!silence.aborted && !isOutOfReach(error)) throw error
    const { message } = failureOf(error)
    if (isArmed(context))
      return context.note(
        `The source's site can't be reached any more (${message}). Its fence was closed while it was frozen, so it can't come back by itself.`,
      )
    if (!(await context.settings.attestedDead(context.migration))) throw error
    await context.note(`The source's site can't be reached (${message}), and an administrator attested that the source is dead.`)
  }
}

/** Right after the suspension: nobody may resume it. Nothing to do where the source's provider can't fence. */
export async function closeFence(context: PhaseContext): Promise<void> {
  if (!isArmed(context)) return
  const { fencing } = await context.source()
  const { signal } = context
  await fencing?.fence({ operationId: context.operationId('fence'), vmId: sourceVmId(context), fenceId: fenceIdOf(context), signal })
  await requireClosed(context, signal)
}

function isArmed(context: PhaseContext): boolean {
  return (context.results.ARM_FENCE?.strength ?? null) !== null
}

/** Throws CONFLICT, and nothing is retried in place: the freeze doesn't wait, and a source that ran has written what its copy lacks. */
async function requireClosed(context: PhaseContext, signal: AbortSignal): Promise<void> {
  const { fencing } = await context.source()
  const state = await fencing?.confirm({ vmId: sourceVmId(context), signal })
  if (state?.fenced && state.fenceId === fenceIdOf(context)) return
  throw new ProviderError('CONFLICT', `The source's fence is not in force (the source is ${state?.power ?? 'UNKNOWN'}).`, {
    retryable: false,
    remedy: 'See who resumes machines or releases fences at its site, then retry the migration.',
  })
}

async function requireNotRunning(context: PhaseContext, signal: AbortSignal): Promise<void> {
  const { virtualMachines } = await context.source()
  const { power } = await virtualMachines.describe({ vmId: sourceVmId(context), signal })
  if (power === 'SUSPENDED' || power === 'STOPPED') return
  throw new ProviderError('CONFLICT', `The source is ${power} though it was suspended.`, {
    retryable: false,
    remedy: 'Find out who resumed it, then retry the migration.',
  })
}
