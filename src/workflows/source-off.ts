import { AgentError } from '../agent-gateway/agent-error.ts'

const message = 'The source virtual machine is off, and its agent with it. Once it is started again, the agent is installed anew.'

/** Retryable: its owner may start it again. */
export function sourceIsOff(): AgentError {
  return new AgentError('AGENT_UNREACHABLE', message, { retryable: true })
}

export function isSourceOff(reason: unknown): boolean {
  return reason instanceof AgentError && reason.message === message
}
