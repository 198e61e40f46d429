import type { TLSSocket } from 'node:tls'
import { parseAgentMessage, type AgentMessage } from './agent-messages.ts'
import type { ListenerLimits } from './listener-limits.ts'
import { readLines } from './line-reader.ts'

/** One mutually authenticated connection of an agent, after its hello. Ends at the first thing that the protocol does not allow. */
export interface AgentConnection {
  /** Once; messages that came before wait. */
  start(on: { message: (message: AgentMessage) => void; closed: () => void }): void
  send(message: object): void
  close(): void
}

/** `first` gets the first message; the rest waits until `start`. `refuse` is called with a sentence for what the protocol forbids. */
export function openAgentConnection(
  socket: TLSSocket,
  limits: ListenerLimits,
  on: { first: (message: AgentMessage, connection: AgentConnection) => void; refuse: (reason: string) => void },
): void {
  let sink: ((message: AgentMessage) => void) | null = null
  let greeted = false
  let budget = limits.messagesPerSecond
  let refilledAt = performance.now()
  let heardAt = performance.now()
  let saysThatItLives = false

  const connection: AgentConnection = {
    start(handlers) {
      sink = handlers.message
      socket.on('close', handlers.closed)
      if (socket.destroyed) queueMicrotask(handlers.closed)
      socket.resume()
    },
    send(message) {
      if (socket.destroyed) return
      socket.write(`${JSON.stringify(message)}\n`)
      // A peer that doesn't read must not make us hold its answers for ever; it gets them again when it redials.
      if (socket.writableLength > limits.maxUnsentBytes) socket.destroy()
    },
    close() {
      socket.destroySoon()
      setTimeout(() => socket.destroy(), 1000).unref()
    },
  }

  function withinRate(): boolean {
    const now = performance.now()
    budget = Math.min(limits.messagesPerSecond, budget + ((now - refilledAt) / 1000) * limits.messagesPerSecond)
    refilledAt = now
    budget -= 1
    return budget >= 0
  }

  // A host that lost its power says no goodbye, and TCP waits for a quarter of an hour for what it sent to be taken.
  const watch = setInterval(() => {
    if (saysThatItLives && performance.now() - heardAt > limits.silenceMs) socket.destroy()
  }, limits.silenceMs / 4)
  watch.unref()
  socket.on('close', () => clearInterval(watch))

  const lines = readLines(
    socket,
    { maxLineBytes: limits.maxLineBytes, partialLineMs: limits.partialLineMs },
    {
      violation: on.refuse,
      line(line) {
        heardAt = performance.now()
        try {
          if (!withinRate()) throw new TypeError(`more than ${limits.messagesPerSecond} messages in a second`)
          const message = parseAgentMessage(line)
          if (!greeted) {
            greeted = true
            on.first(message, connection)
          } else if ('alive' in message) {
            saysThatItLives = true
          } else if (sink && !('hello' in message)) {
            sink(message)
          } else {
            throw new TypeError('a message came out of turn')
          }
        } catch (error) {
          lines.stop()
          on.refuse(error instanceof Error ? error.message : String(error))
        }
      },
    },
  )
}
