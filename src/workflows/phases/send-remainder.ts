import { bothAgents } from '../agent-link.ts'
import type { Phase } from '../phase.ts'
import { runRound } from '../round-run.ts'
import { underLease } from './under-lease.ts'

/** The last round: nothing is written at the source any more, so it ends with nothing pending. */
export const sendRemainder: Phase = {
  name: 'SEND_REMAINDER',
  control: 'CANCELLABLE',
  timeoutMs: 30 * 60_000,
  underLease: true,
  do: (context) =>
    underLease(context, async (_lease, signal) => {
      const { source } = await bothAgents(context)
      const result = await runRound(context, source, 'CHANGED', signal)
      if (!result || result.pendingBytes > 0 || (result.rescanNeeded && result.mode !== 'FULL'))
        return { outcome: 'VOID', reason: 'the source was written to, or events were lost, while it was frozen.', ownFault: true }
      return { outcome: 'DONE', result: { sentAt: Date.now(), ...(result.excluded && { excluded: result.excluded }) } }
    }),
  // What was sent is as right as what was sent before.
  undo: null,
}
