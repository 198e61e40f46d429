/** Brings agents back that did not come, or were lost while the disks are synced: what was copied stays, and the round after it compares everything. */
import { AgentError } from '../../agent-gateway/agent-error.ts'
import type { AgentSession } from '../../agent-gateway/agent-session.ts'
import type { AgentRole } from '../../transfer/control-protocol.ts'
import type { PhaseContext } from '../phase.ts'
import { sourceIsOff } from '../source-off.ts'
import { installSourceAgent } from './install-agents.ts'
import { bootLandingAgain } from './instantiate-destination.ts'
import { isOff } from './phase-facts.ts'

export interface LostAgents {
  /** The connected agent, put there again where it doesn't come back by itself. Throws AgentError AGENT_UNREACHABLE, also while the source is off, and what the provider throws. */
  agent(role: AgentRole): Promise<AgentSession>
  /** It was seen off in a round: what ran in it won't come back, though its connection may look alive. */
  sourceWentOff(): void
  /** A round was run: whoever is lost from now on is lost for another reason. */
  worked(): void
}

/** Without a round in between: an agent that dies again and again has a reason. */
const maxReturns = 3

export function createLostAgents(context: PhaseContext): LostAgents {
  const returns: Record<AgentRole, number> = { SOURCE: 0, DESTINATION: 0 }
  const { agentMs, lostMs, powerLookMs } = context.settings.timings
  /** What starts it again is its owner's business; whatever ran in its memory is gone then. */
  let sourceWasOff = context.results.CONNECT_AGENTS?.sourceInstanceId === null

  async function waitFor(role: AgentRole): Promise<AgentSession> {
    const { signal } = context
    const agents = await context.agents()
    // One that never came is not lost: a guest that gets little of a processor takes long to start it, and would have to begin anew.
    const longestMs = agents.hasEnrolled(role) ? Math.min(agentMs, lostMs) : agentMs
    for (let leftMs = longestMs; ; leftMs -= powerLookMs) {
      try {
        return await agents.agent(role, { signal, timeoutMs: Math.min(powerLookMs, leftMs) })
      } catch (error) {
        if (!isUnreachable(error)) throw error
        const off = await isOff(context, role)
        if (role === 'SOURCE' && off) sourceWasOff = true
        if (leftMs <= powerLookMs || off) throw error
      }
    }
  }

  return {
    async agent(role) {
      try {
        if (role === 'DESTINATION' || !sourceWasOff) return await waitFor(role)
      } catch (error) {
        if (!isUnreachable(error) || returns[role] === maxReturns) throw error
      }
      if (role === 'SOURCE' && sourceWasOff && (await isOff(context, role))) throw sourceIsOff()
      const agents = await context.agents()
      await agents.reissue(role)
      // Another call each time: the provider would answer the same one as before.
      const call = `again-${Date.now()}`
      if (role === 'SOURCE') {
        await installSourceAgent(context, `install-${call}`)
        await context.note("The source's agent was gone, and is installed again.")
        sourceWasOff = false
      } else {
        await context.note("The destination's agent is gone; its landing image boots again, and what was copied stays.")
        await bootLandingAgain(context, `landing-${call}`)
      }
      returns[role]++
      return agents.agent(role, { signal: context.signal, timeoutMs: agentMs })
    },
    sourceWentOff() {
      sourceWasOff = true
    },
    worked() {
      returns.SOURCE = 0
      returns.DESTINATION = 0
    },
  }
}

function isUnreachable(error: unknown): boolean {
  return error instanceof AgentError && error.code === 'AGENT_UNREACHABLE'
}
