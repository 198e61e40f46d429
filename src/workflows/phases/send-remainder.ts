import { bothAgents } from '../agent-link.ts'
import type { Phase } from '../phase.ts'
import { leavesNothing, runRound } from '../round-run.ts'
import { underLease } from './under-lease.ts'
import { withinPermittedDowntime } from './within-permitted-downtime.ts'

/** The last round: nothing is written at the source any more, so it ends with nothing pending. */
export const sendRemainder: Phase = {
  name: 'SEND_REMAINDER',
  control: 'CANCELLABLE',
  timeoutMs: 30 * 60_000,
  underLease: true,
  do: (context) =>
    underLease(context, (_lease, lease) =>
      withinPermittedDowntime(context, 'the remainder', lease, async (signal) => {
        const agents = await bothAgents(context, { signal, timeoutMs: context.settings.timings.frozenStallMs })
        const result = await runRound(context, agents, { mode: 'CHANGED', frozen: true }, signal)
        if (!result || !leavesNothing(result))
          return { outcome: 'VOID', reason: 'the source was written to, or events were lost, while it was frozen.', ownFault: true }
        return { outcome: 'DONE', result: { sentAt: Date.now(), ...(result.excluded && { excluded: result.excluded }) } }
      }),
    ),
  // What was sent is as right as what was sent before.
  undo: null,
}
