import { bothAgents } from '../agent-link.ts'
import { done, type Phase } from '../phase.ts'
import { underLease } from './under-lease.ts'
import { withinPermittedDowntime } from './within-permitted-downtime.ts'

/** Whole-disk truth: the destination's root is over what it re-read from its disk. */
export const compareRoots: Phase = {
  name: 'COMPARE_ROOTS',
  control: 'CANCELLABLE',
  timeoutMs: 10 * 60_000,
  underLease: true,
  do: (context) =>
    underLease(context, (_lease, lease) =>
      withinPermittedDowntime(context, 'the comparison of the roots', lease, async (signal) => {
        const { requestMs, frozenStallMs } = context.settings.timings
        const agents = await bothAgents(context, { signal, timeoutMs: frozenStallMs })
        const options = { signal, timeoutMs: requestMs }
        const [source, destination] = await Promise.all([
          agents.source.request('root', {}, options),
          agents.destination.request('root', {}, options),
        ])
        await context.store.write(context.migration, { patch: { sourceRoot: source.root, destinationRoot: destination.root } })
        if (source.root === destination.root && source.blocks === destination.blocks) return { ...done, result: { equal: true } }
        return {
          outcome: 'VOID',
          reason: 'the roots of the two disks differ; everything is compared again.',
          ownFault: true,
          code: 'ROOTS_DIFFER',
          result: { equal: false },
        }
      }),
    ),
  // It only reads.
  undo: null,
}
