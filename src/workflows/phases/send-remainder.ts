import { bothAgents } from '../agent-link.ts'
import type { Phase } from '../phase.ts'
import { leavesNothing, runRound } from '../round-run.ts'
import { underLease } from './under-lease.ts'

/** The last round: nothing is written at the source any more, so it ends with nothing pending. Under no other policy than FORCE it takes longer than all of the downtime may. */
export const sendRemainder: Phase = {
  name: 'SEND_REMAINDER',
  control: 'CANCELLABLE',
  timeoutMs: 30 * 60_000,
  underLease: true,
  do: (context) =>
    underLease(context, async (_lease, signal) => {
      const { permittedDowntimeMs, request } = context.migration
      const permitted = request.nonConvergencePolicy === 'FORCE' ? null : AbortSignal.timeout(permittedDowntimeMs)
      const agents = await bothAgents(context)
      try {
        const result = await runRound(
          context,
          agents,
          { mode: 'CHANGED', frozen: true },
          permitted ? AbortSignal.any([signal, permitted]) : signal,
        )
        if (!result || !leavesNothing(result))
          return { outcome: 'VOID', reason: 'the source was written to, or events were lost, while it was frozen.', ownFault: true }
        return { outcome: 'DONE', result: { sentAt: Date.now(), ...(result.excluded && { excluded: result.excluded }) } }
      } catch (error) {
        if (signal.aborted || !permitted?.aborted) throw error
        return {
          outcome: 'VOID',
          reason: `the remainder took longer than the permitted downtime of ${permittedDowntimeMs / 1000} s.`,
          ownFault: true,
        }
      }
    }),
  // What was sent is as right as what was sent before.
  undo: null,
}
