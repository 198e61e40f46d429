/** Brings agents back that were lost while the disks are synced: what was copied stays, and the round after it compares everything. */
import { AgentError } from '../../agent-gateway/agent-error.ts'
import type { AgentSession } from '../../agent-gateway/agent-session.ts'
import type { AgentRole } from '../../transfer/control-protocol.ts'
import type { PhaseContext } from '../phase.ts'
import { installSourceAgent } from './install-agents.ts'
import { bootLandingAgain } from './instantiate-destination.ts'
import { destinationVmId } from './phase-facts.ts'

export interface LostAgents {
  /** The connected agent, put there again where it doesn't come back by itself. Throws AgentError AGENT_UNREACHABLE, and what the provider throws. */
  agent(role: AgentRole): Promise<AgentSession>
  /** A round was run: whoever is lost from now on is lost for another reason. */
  worked(): void
}

/** Without a round in between: an agent that dies again and again has a reason. */
const maxReturns = 3
/** A virtual machine that is off won't dial in, however long one waits. */
const lookEveryMs = 5_000

export function createLostAgents(context: PhaseContext): LostAgents {
  const returns: Record<AgentRole, number> = { SOURCE: 0, DESTINATION: 0 }
  const { agentMs, lostMs } = context.settings.timings

  async function waitFor(role: AgentRole): Promise<AgentSession> {
    const { signal } = context
    const agents = await context.agents()
    for (let leftMs = Math.min(agentMs, lostMs); ; leftMs -= lookEveryMs) {
      try {
        return await agents.agent(role, { signal, timeoutMs: Math.min(lookEveryMs, leftMs) })
      } catch (error) {
        if (!isUnreachable(error)) throw error
        const powerIsOff = role === 'DESTINATION' && (await destinationIsOff(context))
        if (leftMs <= lookEveryMs || powerIsOff) throw error
      }
    }
  }

  return {
    async agent(role) {
      try {
        return await waitFor(role)
      } catch (error) {
        if (!isUnreachable(error) || returns[role] === maxReturns) throw error
      }
      const agents = await context.agents()
      await agents.reissue(role)
      // Another call each time: the provider would answer the same one as before.
      const call = `again-${Date.now()}`
      if (role === 'SOURCE') {
        await context.note("The source's agent is gone; it is installed again.")
        await installSourceAgent(context, `install-${call}`)
      } else {
        await context.note("The destination's agent is gone; its landing image boots again, and what was copied stays.")
        await bootLandingAgain(context, `landing-${call}`)
      }
      returns[role]++
      return agents.agent(role, { signal: context.signal, timeoutMs: agentMs })
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

/** False also where its cloud can't tell: then there is nothing to do but wait. */
async function destinationIsOff(context: PhaseContext): Promise<boolean> {
  try {
    const { virtualMachines } = await context.destination()
    return (await virtualMachines.describe({ vmId: destinationVmId(context), signal: context.signal })).power === 'STOPPED'
  } catch {
    context.signal.throwIfAborted()
    return false
  }
}
