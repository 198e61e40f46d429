export type AgentErrorCode =
  /** No agent of that role is connected, and none came in time. */
  | 'AGENT_UNREACHABLE'
  /** Another process of the agent dialled in: what the old one tracked is lost. Ask for the agent again, and start over with a FULL round. */
  | 'AGENT_RESTARTED'
  /** The agent answered with an error of its own; `agentCode` says which. */
  | 'AGENT_FAILED'
  | 'TIMED_OUT'
  | 'CANCELLED'
  /** closeMigration was called, or the gateway ended. */
  | 'MIGRATION_CLOSED'
  /** The agent sent what the protocol does not allow. */
  | 'PROTOCOL'

/** What goes wrong between control plane and agent. `retryable`: the same call may succeed later. */
export class AgentError extends Error {
  override readonly name = 'AgentError'
  readonly code: AgentErrorCode
  readonly retryable: boolean
  readonly agentCode: string | undefined

  constructor(code: AgentErrorCode, message: string, details: { retryable: boolean; agentCode?: string }) {
    super(message)
    this.code = code
    this.retryable = details.retryable
    this.agentCode = details.agentCode
  }
}
