import { AgentError } from '../agent-gateway/agent-error.ts'
import type { PhaseContext } from './phase.ts'

const message = 'The source virtual machine is off, and its agent with it. Once it is started again, the agent is installed anew.'

/** Retryable: its owner may start it again. */
export function sourceIsOff(): AgentError {
  return new AgentError('AGENT_UNREACHABLE', message, { retryable: true })
}

export function isSourceOff(reason: unknown): boolean {
  return reason instanceof AgentError && reason.message === message
}

/** Kept, so that whoever syncs next installs its agent again at once, also where the source runs by then, or another process goes on. */
export async function keepThatSourceWasOff(context: PhaseContext): Promise<void> {
  const link = context.results.CONNECT_AGENTS
  if (link) await context.keep('CONNECT_AGENTS', { ...link, sourceInstanceId: null })
}
