/** The conversation with one child over its channel: lines of JSON, both ways. */
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { createChildLines } from '../transfer/child-lines.ts'
import { encodeToChild, parseFromChild, type FromChild, type ToChild } from '../transfer/child-messages.ts'

export interface ChildSession {
  /** Several go in one write. */
  send(...messages: ToChild[]): void
  /** Settles with the first message that `picks` chooses. Rejects when the session ends, and after the time. */
  expect<Picked extends FromChild>(picks: (message: FromChild) => message is Picked, timeoutMs: number, what: string): Promise<Picked>
  /** Settles when the channel has closed, or the child said what it may not; with the reason. */
  readonly ended: Promise<string>
  close(): void
}

/** A Unix socket of this machine, or whatever else leads to the guest. */
export type ChildChannel = { path: string } | { connect(signal: AbortSignal): Promise<Duplex> }

const connectTimeoutMs = 10_000

/** @param onMessage is given each message that nothing has expected. */
export async function openChildSession(options: {
  channel: ChildChannel
  signal: AbortSignal
  onMessage: (message: FromChild) => void
}): Promise<ChildSession> {
  const { channel } = options
  const socket = 'path' in channel ? await connectTo(channel.path) : await channel.connect(options.signal)
  const expectations = new Set<(message: FromChild) => boolean>()
  const { promise: ended, resolve: end } = Promise.withResolvers<string>()
  socket.once('close', () => end('The channel to the child closed.'))
  socket.on('error', (error) => end(`The channel to the child failed: ${error.message}`))
  const abort = () => {
    end('The session was ended from here.')
    socket.destroy()
  }
  options.signal.addEventListener('abort', abort, { once: true })
  void ended.then(() => options.signal.removeEventListener('abort', abort))
  if (options.signal.aborted) abort()

  const lines = createChildLines()
  socket.on('data', (chunk: Buffer) => {
    try {
      for (const line of lines.push(chunk)) hear(parseFromChild(line))
    } catch (error) {
      end(error instanceof Error ? error.message : String(error))
      socket.destroy()
    }
  })

  function hear(message: FromChild): void {
    for (const expectation of expectations) if (expectation(message)) return
    options.onMessage(message)
  }

  return {
    send(...messages) {
      if (!socket.destroyed && messages.length > 0) socket.write(messages.map(encodeToChild).join(''))
    },
    expect(picks, timeoutMs, what) {
      return new Promise((done, fail) => {
        const expectation = (message: FromChild) => {
          if (!picks(message)) return false
          settle()
          done(message)
          return true
        }
        const timer = setTimeout(() => (settle(), fail(new Error(`The child did not say ${what} within ${timeoutMs} ms.`))), timeoutMs)
        const settle = () => (clearTimeout(timer), expectations.delete(expectation))
        expectations.add(expectation)
        void ended.then((reason) => (settle(), fail(new Error(reason))))
      })
    },
    ended,
    close: abort,
  }
}

async function connectTo(path: string): Promise<Duplex> {
  const socket = connect({ path })
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(connectTimeoutMs) })
    return socket
  } catch (error) {
    socket.destroy()
    throw new Error(
      socket.connecting ? 'The channel to the child took no connection.' : `The channel to the child failed: ${(error as Error).message}`,
      { cause: error },
    )
  }
}
