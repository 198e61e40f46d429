import { done, type Phase } from '../phase.ts'
import { releaseSource } from './arm-fence.ts'
import { closeFence } from './fence-source.ts'
import { freezeIdOf, sourceIsGone, sourceVmId } from './phase-facts.ts'
import { underLease } from './under-lease.ts'

const unconfirmed = "the source's agent did not confirm, right before the suspension, that the source is still frozen."

/** Once its provider has suspended it, nobody needs the guest's word any more, provided that the freeze held until then. */
export const suspendSource: Phase = {
  name: 'SUSPEND_SOURCE',
  atSource: true,
  control: 'CANCELLABLE',
  timeoutMs: 2 * 60_000,
  underLease: true,
  async do(context) {
    // A suspension that an earlier run asked for may be in force; whether the freeze held until then is not known any more.
    const outcome = await underLease(context, async (lease) => {
      // It comes from the boot that was frozen: a guest that was reset since has no agent, and may serve before the lease would have lapsed.
      if (!(await lease.renew())) return { outcome: 'VOID', reason: unconfirmed, ownFault: true }
      const source = await context.source()
      await source.virtualMachines.suspend({
        operationId: context.operationId('suspend'),
        vmId: sourceVmId(context),
        signal: context.signal,
      })
      // The freeze vouches for the source until its fence is closed, and from there on the fence: nobody resumes it in between unseen.
      await closeFence(context)
      return lease.endAfterSuspension()
        ? done
        : { outcome: 'VOID', reason: 'the lease of the freeze had lapsed when the source was suspended.', ownFault: true }
    })
    context.leases.drop(freezeIdOf(context))
    return outcome
  },
  async undo(context) {
    const { virtualMachines } = await context.source()
    await releaseSource(context)
    try {
      await virtualMachines.resume({ operationId: context.operationId('resume'), vmId: sourceVmId(context), signal: context.signal })
    } catch (error) {
      if (!(await sourceIsGone(context))) throw error
      await context.note('The source was powered off meanwhile, so there is nothing to resume; it is left so.')
    }
  },
}
