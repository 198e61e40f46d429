/** The sessions of one migration's agents, by role, and who waits for them. */
import type { AgentHello, AgentRole, RoundProgress } from '../transfer/control-protocol.ts'
import type { AgentConnection } from './agent-connection.ts'
import { AgentError } from './agent-error.ts'
import { createAgentSession, type AgentSession, type OwnedAgentSession } from './agent-session.ts'

export interface AgentRoster {
  /** Takes over a connection that said hello. */
  admit(hello: AgentHello, connection: AgentConnection): void
  agent(role: AgentRole, options: { signal?: AbortSignal; timeoutMs: number }): Promise<AgentSession>
  onProgress(role: AgentRole, listener: (progress: RoundProgress) => void): () => void
  end(role: AgentRole, reason: AgentError): void
  close(reason: AgentError): void
}

export function createAgentRoster(migrationId: string): AgentRoster {
  const sessions = new Map<AgentRole, OwnedAgentSession>()
  const arrivals = new EventTarget()
  const listeners: Record<AgentRole, Set<(progress: RoundProgress) => void>> = { SOURCE: new Set(), DESTINATION: new Set() }
  let closedBy: AgentError | null = null

  return {
    admit(hello, connection) {
      if (closedBy) return connection.close()
      const { role } = hello
      let session = sessions.get(role)
      if (session?.hello.agentInstanceId !== hello.agentInstanceId) {
        session?.end(
          new AgentError(
            'AGENT_RESTARTED',
            `The ${role} agent of migration ${migrationId} was started again, so what it tracked is lost.`,
            {
              retryable: true,
            },
          ),
        )
        session = createAgentSession(hello)
        session.onProgress((progress) => {
          for (const listener of listeners[role]) listener(progress)
        })
        sessions.set(role, session)
      }
      session.attach(connection, hello)
      arrivals.dispatchEvent(new Event(role))
    },
    agent(role, { signal, timeoutMs }) {
      const connected = sessions.get(role)
      if (closedBy) return Promise.reject(closedBy)
      if (connected?.connected) return Promise.resolve(connected)
      return new Promise((resolve, reject) => {
        const waiting = new AbortController()
        const settle = (act: () => void) => {
          clearTimeout(timer)
          waiting.abort()
          act()
        }
        const timer = setTimeout(() => settle(() => reject(unreachable(role, timeoutMs))), timeoutMs)
        const options = { signal: waiting.signal }
        arrivals.addEventListener(role, () => settle(() => resolve(sessions.get(role)!)), options)
        arrivals.addEventListener('closed', () => settle(() => reject(closedBy!)), options)
        const cancelled = () =>
          settle(() => reject(new AgentError('CANCELLED', `Waiting for the ${role} agent was cancelled.`, { retryable: false })))
        if (signal?.aborted) cancelled()
        else signal?.addEventListener('abort', cancelled, options)
      })
    },
    onProgress(role, listener) {
      listeners[role].add(listener)
      return () => void listeners[role].delete(listener)
    },
    end(role, reason) {
      sessions.get(role)?.end(reason)
      sessions.delete(role)
    },
    close(reason) {
      closedBy = reason
      for (const session of sessions.values()) session.end(reason)
      sessions.clear()
      arrivals.dispatchEvent(new Event('closed'))
    },
  }

  function unreachable(role: AgentRole, timeoutMs: number): AgentError {
    return new AgentError(
      'AGENT_UNREACHABLE',
      `The ${role} agent of migration ${migrationId} did not dial in within ${timeoutMs} ms: check that its guest runs and reaches the control plane's agent listener.`,
      { retryable: true },
    )
  }
}
