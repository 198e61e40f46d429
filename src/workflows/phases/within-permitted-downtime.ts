import type { PhaseContext, PhaseOutcome } from '../phase.ts'

/** Does the work, which `what` names, for no longer than all of the downtime may take, unless the policy is FORCE: then the switchover is void. `signal` is that of the freeze's lease. */
export async function withinPermittedDowntime(
  { migration }: PhaseContext,
  what: string,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<PhaseOutcome>,
): Promise<PhaseOutcome> {
  const { permittedDowntimeMs, request } = migration
  if (request.nonConvergencePolicy === 'FORCE') return work(signal)
  const permitted = AbortSignal.timeout(permittedDowntimeMs)
  try {
    return await work(AbortSignal.any([signal, permitted]))
  } catch (error) {
    if (signal.aborted || !permitted.aborted) throw error
    return {
      outcome: 'VOID',
      reason: `${what} took longer than the permitted downtime of ${permittedDowntimeMs / 1000} s.`,
      ownFault: true,
    }
  }
}
