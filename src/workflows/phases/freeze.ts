import { AgentError } from '../../agent-gateway/agent-error.ts'
import type { AgentSession } from '../../agent-gateway/agent-session.ts'
import { areJoined, bothAgents } from '../agent-link.ts'
import { endedByCutover, endOpenTests } from '../migration-test-run.ts'
import type { Phase, PhaseContext } from '../phase.ts'
import { isSourceOff, keepThatSourceWasOff } from '../source-off.ts'
import { wait } from '../wait.ts'
import { whileMachineRuns } from '../while-machine-runs.ts'
import { freezeIdOf } from './phase-facts.ts'
import { voidAfterRestart } from './under-lease.ts'

/** From here on the service may stand still. */
export const freeze: Phase = {
  name: 'FREEZE',
  atSource: true,
  control: 'CANCELLABLE',
  timeoutMs: 2 * 60_000,
  underLease: true,
  async do(context) {
    if (context.repeated) return voidAfterRestart
    // One may have been accepted while the hooks after READY_TO_CUT_OVER ran.
    await endOpenTests(context, endedByCutover)
    // Where one is gone, the source syncs on, and the agent is looked after there: as soon as that is clear.
    const agents = await bothAgents(context, { timeoutMs: context.settings.timings.frozenStallMs })
    const { source } = agents
    if (!areJoined(context, agents))
      return { outcome: 'VOID', reason: 'an agent was started again just before the freeze.', ownFault: true, code: 'AGENT_UNREACHABLE' }
    const { signal, settings, leases } = context
    // Asked before the freeze: once suspended, the source can't answer.
    const { nics } = await source.request('interfaces', {}, { signal, timeoutMs: settings.timings.requestMs })
    const freezingAt = Date.now()
    const { frozen } = await whileMachineRuns(context, 'SOURCE', (running) =>
      leases.begin(freezeIdOf(context), source, settings.timings.leaseMs, running),
    )
    await context.note(`Frozen: ${frozen.join(', ')}.`)
    return { outcome: 'DONE', result: { freezingAt, frozenAt: Date.now(), interfaces: nics } }
  },
  async undo(context) {
    const freezeId = freezeIdOf(context)
    const { leaseMs, agentMs } = context.settings.timings
    context.leases.drop(freezeId)
    const unrenewedSince = performance.now()
    let source: AgentSession | undefined
    try {
      await whileMachineRuns(context, 'SOURCE', async (signal) => {
        source = await (await context.agents()).agent('SOURCE', { signal, timeoutMs: Math.min(leaseMs, agentMs) })
        await source.request('thaw', { freezeId }, { signal, timeoutMs: leaseMs })
      })
    } catch (error) {
      // Nothing of it is frozen any more, and the sooner it is started again the better.
      if (isSourceOff(error)) return keepThatSourceWasOff(context)
      if (!(error instanceof AgentError) || context.signal.aborted) throw error
      // It is there, and what it thaws is not thawed yet: a file system that waits for its writers to be frozen.
      if (source?.connected) throw error
      await thawsByItself(context, error, unrenewedSince)
    }
  },
}

/** Nobody renews any more, so the watchdog in the guest thaws at the latest when a whole lease has passed. */
async function thawsByItself(context: PhaseContext, error: AgentError, unrenewedSince: number): Promise<void> {
  const { leaseMs } = context.settings.timings
  await context.note(`The source's agent can't be told to thaw (${error.message}); its watchdog does so within ${leaseMs / 1000} s.`)
  await wait(Math.max(0, unrenewedSince + leaseMs - performance.now()), context.signal)
}
