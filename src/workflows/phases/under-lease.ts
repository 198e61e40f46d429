import type { FreezeLease } from '../freeze-leases.ts'
import type { PhaseContext, PhaseOutcome } from '../phase.ts'
import { freezeIdOf } from './phase-facts.ts'

/** Nobody knows whether the source stayed frozen while there was no control plane. */
export const voidAfterRestart: PhaseOutcome = {
  outcome: 'VOID',
  reason: 'the control plane was restarted while the source was frozen, so nobody can vouch for the freeze.',
  ownFault: false,
}

const lapsed: PhaseOutcome = {
  outcome: 'VOID',
  reason: 'the lease of the freeze lapsed, or the source was written to although it was frozen.',
  ownFault: true,
}

/** Does the work while the freeze holds; `signal` is aborted with it. A lease that is unknown here, or lapses meanwhile, voids the switchover. */
export async function underLease(
  context: PhaseContext,
  work: (lease: FreezeLease, signal: AbortSignal) => Promise<PhaseOutcome>,
): Promise<PhaseOutcome> {
  const lease = context.leases.find(freezeIdOf(context))
  if (!lease) return voidAfterRestart
  if (lease.signal.aborted) return lapsed
  try {
    const outcome = await work(lease, AbortSignal.any([context.signal, lease.signal]))
    return lease.signal.aborted ? lapsed : outcome
  } catch (error) {
    context.signal.throwIfAborted()
    if (lease.signal.aborted) return lapsed
    throw error
  }
}
