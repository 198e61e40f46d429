import { AgentError } from '../agent-gateway/agent-error.ts'
import type { AgentRole } from '../transfer/control-protocol.ts'
import type { PhaseContext } from './phase.ts'
import { isOff } from './phases/phase-facts.ts'
import { sourceIsOff } from './source-off.ts'

const message = "The destination's virtual machine went off while the copy was made ready in it. What was copied and verified is kept."

export function isDestinationOff(reason: unknown): boolean {
  return reason instanceof AgentError && reason.message === message
}

/**
 * Does the work while the machine runs. One that is off neither answers nor starts by itself, and the service stands still meanwhile. Throws AgentError AGENT_UNREACHABLE
 * as soon as its cloud says that it is off.
 */
export async function whileMachineRuns<Result>(
  context: PhaseContext,
  role: AgentRole,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const off = new AbortController()
  const look = async () => {
    if (await isOff(context, role))
      off.abort(role === 'SOURCE' ? sourceIsOff() : new AgentError('AGENT_UNREACHABLE', message, { retryable: true }))
  }
  const watch = setInterval(() => void look().catch(() => {}), context.settings.timings.powerLookMs)
  try {
    return await work(AbortSignal.any([context.signal, off.signal]))
  } catch (error) {
    context.signal.throwIfAborted()
    await look()
    throw off.signal.aborted ? off.signal.reason : error
  } finally {
    clearInterval(watch)
  }
}
