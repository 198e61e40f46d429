import { connect, type Socket } from 'node:net'
import { linkLost } from './channel.ts'
import type { AgentRole } from './control-protocol.ts'
import { relayLineBytes, type RelayRequest } from './relay-protocol.ts'

/** A TCP connection. Throws TransferError LINK_LOST. */
export function dial(endpoint: { host: string; port: number }, timeoutMs: number, signal?: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: endpoint.host, port: endpoint.port, noDelay: true })
    const where = `${endpoint.host}:${endpoint.port}`
    const timer = setTimeout(() => fail(`${where} did not answer within ${timeoutMs} ms`), timeoutMs)
    const onAbort = () => fail('the agent was told to stop')
    const onError = (error: Error) => fail(`${where}: ${error.message}`)
    function settle(): void {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      socket.off('error', onError)
    }
    function fail(reason: string): void {
      settle()
      socket.on('error', () => {})
      socket.destroy()
      reject(linkLost(reason))
    }
    if (signal?.aborted) return onAbort()
    signal?.addEventListener('abort', onAbort)
    socket.on('error', onError)
    socket.once('connect', () => {
      settle()
      resolve(socket)
    })
  })
}

/** A connection through the relay, from where on every byte is the peer's. Waits for the peer; throws TransferError LINK_LOST. */
export async function dialThroughRelay(
  relay: { host: string; port: number; token: string },
  role: AgentRole,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<Socket> {
  const socket = await dial(relay, timeoutMs, signal)
  const request: RelayRequest = { relay: { token: relay.token, role } }
  socket.write(`${JSON.stringify(request)}\n`)
  return new Promise((resolve, reject) => {
    let line = Buffer.alloc(0)
    const timer = setTimeout(() => fail(`the other agent did not come to the relay within ${timeoutMs} ms`), timeoutMs)
    const onAbort = () => fail('the agent was told to stop')
    const onError = (error: Error) => fail(`the relay: ${error.message}`)
    const onClose = () => fail('the relay closed the connection')
    function settle(): void {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      socket.off('data', onData).off('error', onError).off('close', onClose)
    }
    function fail(reason: string): void {
      settle()
      socket.on('error', () => {})
      socket.destroy()
      reject(linkLost(reason))
    }
    function onData(chunk: Buffer): void {
      line = Buffer.concat([line, chunk])
      const end = line.indexOf(10)
      if (end < 0) return line.length > relayLineBytes ? fail('the relay answered with too long a line') : undefined
      if (line.toString('utf8', 0, end) !== '{"paired":{}}') return fail('the relay answered with something unknown')
      settle()
      socket.pause()
      // What came behind the line is the peer's already: back in front of the stream for TLS.
      if (line.length > end + 1) socket.unshift(line.subarray(end + 1))
      resolve(socket)
    }
    signal?.addEventListener('abort', onAbort)
    socket.on('data', onData).on('error', onError).on('close', onClose)
  })
}
