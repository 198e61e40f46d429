/**
 * One running agent process as the control plane sees it. The session outlives its connections: when the link drops, requests wait,
 * and are sent again, under the same id, once the same process dials in again; the agent answers as the first time. Another process
 * (another agentInstanceId) has lost what this one tracked, so it ends the session with AGENT_RESTARTED.
 *
 *   connected <-> disconnected -> ended
 */
import { randomUUID } from 'node:crypto'
import type { AgentHello, ControlMethod, ControlRequests, RoundProgress } from '../transfer/control-protocol.ts'
import type { AgentConnection } from './agent-connection.ts'
import { AgentError } from './agent-error.ts'
import { parseResult, type AgentMessage } from './agent-messages.ts'

export interface AgentSession {
  /** From the newest connection. */
  readonly hello: AgentHello
  readonly connected: boolean
  /**
   * Throws AgentError: AGENT_FAILED (with the agent's code), AGENT_RESTARTED, MIGRATION_CLOSED, TIMED_OUT, CANCELLED, PROTOCOL. A time-out or an abort ends the
   * waiting only: what runs in the guest goes on until it is told to stop (`round.stop`, `thaw`).
   */
  request<M extends ControlMethod>(
    method: M,
    params: ControlRequests[M][0],
    options: { signal?: AbortSignal; timeoutMs: number },
  ): Promise<ControlRequests[M][1]>
  /** Returns what stops the listening. */
  onProgress(listener: (progress: RoundProgress) => void): () => void
  /** Hears the reason once the session has ended; at once where it has ended already. A dropped link doesn't end it. Returns what stops the listening. */
  onClosed(listener: (reason: AgentError) => void): () => void
}

/** The gateway's side of a session. */
export interface OwnedAgentSession extends AgentSession {
  attach(connection: AgentConnection, hello: AgentHello): void
  end(reason: AgentError): void
}

interface PendingRequest {
  method: ControlMethod
  line: { request: { id: string; method: ControlMethod; params: unknown } }
  sent: boolean
  settle(outcome: { result: unknown } | { error: AgentError }): void
}

export function createAgentSession(first: AgentHello): OwnedAgentSession {
  const pending = new Map<string, PendingRequest>()
  const listeners = new Set<(progress: RoundProgress) => void>()
  const closedListeners = new Set<(reason: AgentError) => void>()
  let hello = first
  let connection: AgentConnection | null = null
  let ended: AgentError | null = null
  const name = `The ${first.role} agent of migration ${first.migrationId}`

  function send(request: PendingRequest): void {
    if (!connection) return
    request.sent = true
    connection.send(request.line)
  }

  function receive(message: AgentMessage): void {
    if ('progress' in message) {
      for (const listener of listeners) listener(message.progress)
    } else if ('response' in message) {
      const request = pending.get(message.response.id)
      // An unknown id is an answer that came after its request's time-out.
      if (request) request.settle(outcomeOf(request.method, message.response))
    }
  }

  function outcomeOf(method: ControlMethod, response: Extract<AgentMessage, { response: unknown }>['response']) {
    if ('error' in response) {
      const { code, message, retryable } = response.error
      return { error: new AgentError('AGENT_FAILED', `${name} could not do ${method}: ${message}`, { retryable, agentCode: code }) }
    }
    try {
      return { result: parseResult(method, response.result) }
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      return { error: new AgentError('PROTOCOL', `${name} broke the protocol: ${reason}`, { retryable: false }) }
    }
  }

  return {
    get hello() {
      return hello
    },
    get connected() {
      return connection !== null
    },
    onProgress(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    onClosed(listener) {
      if (ended) listener(ended)
      else closedListeners.add(listener)
      return () => void closedListeners.delete(listener)
    },
    request(method, params, { signal, timeoutMs }) {
      return new Promise((resolve, reject) => {
        if (ended) return reject(ended)
        if (signal?.aborted) return reject(cancelled())
        const id = randomUUID()
        const timer = setTimeout(() => {
          const state = connection ? 'is connected' : 'is not connected'
          fail(new AgentError('TIMED_OUT', `${name} did not answer ${method} within ${timeoutMs} ms; it ${state}.`, { retryable: true }))
        }, timeoutMs)
        const request: PendingRequest = {
          method,
          line: { request: { id, method, params } },
          sent: false,
          settle(outcome) {
            clearTimeout(timer)
            signal?.removeEventListener('abort', onAbort)
            pending.delete(id)
            if ('error' in outcome) reject(outcome.error)
            else resolve(outcome.result as ControlRequests[typeof method][1])
          },
        }
        const fail = (error: AgentError) => request.settle({ error })
        const onAbort = () => fail(cancelled())
        function cancelled(): AgentError {
          return new AgentError('CANCELLED', `The request ${method} to the ${first.role} agent was cancelled.`, { retryable: false })
        }
        signal?.addEventListener('abort', onAbort)
        pending.set(id, request)
        send(request)
      })
    },
    attach(next, nextHello) {
      connection?.close()
      connection = next
      hello = nextHello
      next.start({
        message: receive,
        closed() {
          if (connection !== next) return
          connection = null
          // The protocol answers nothing after `exit`: the link's end is the answer.
          for (const request of pending.values()) if (request.method === 'exit' && request.sent) request.settle({ result: {} })
        },
      })
      for (const request of pending.values()) send(request)
    },
    end(reason) {
      if (ended) return
      ended = reason
      const last = connection
      connection = null
      last?.close()
      for (const request of pending.values()) {
        const exited = request.method === 'exit' && request.sent
        request.settle(exited ? { result: {} } : { error: reason })
      }
      listeners.clear()
      for (const listener of closedListeners) listener(reason)
      closedListeners.clear()
    },
  }
}
