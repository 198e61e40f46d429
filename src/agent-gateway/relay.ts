/**
 * For two agents that can't reach each other: pairs two TCP connections that show the same migration's token (relay-protocol.ts), and pipes
 * bytes both ways, with back-pressure. What passes is the agents' own TLS, so this sees ciphertext only, and trusts neither side.
 *
 *   connected -> asked -> waiting -> paired -> closed        a newer connection of a role replaces the older
 */
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { z } from 'zod'
import type { AgentRole } from '../transfer/control-protocol.ts'
import { relayLineBytes, type RelayPaired, type RelayRequest } from '../transfer/relay-protocol.ts'
import type { ListenAddress } from './agent-listener.ts'
import type { GatewayLog } from './gateway-log.ts'

export interface Relay {
  addresses: ListenAddress[]
  /** Lets the bearers of the token pair from now on. */
  admit(token: string): void
  /** Closes what the token paired, and refuses it from now on. */
  expel(token: string): void
  close(): Promise<void>
}

export interface RelayLimits {
  /** From the TCP connection to the end of the request line. */
  requestMs: number
  /** From the request to the peer's arrival. */
  unpairedMs: number
  /** Without a byte in either direction. */
  idleMs: number
  /** Connections without a peer, all migrations together; the oldest makes room. */
  maxUnpaired: number
}

export const defaultRelayLimits: RelayLimits = { requestMs: 5000, unpairedMs: 60_000, idleMs: 600_000, maxUnpaired: 256 }

const relayRequest = z.object({
  relay: z.object({ token: z.string().min(1).max(128), role: z.enum(['SOURCE', 'DESTINATION']) }),
}) satisfies z.ZodType<RelayRequest>

type Places = Record<AgentRole, Socket | null>

export async function createRelay(options: { listen: ListenAddress[]; limits: RelayLimits; log: GatewayLog }): Promise<Relay> {
  const { limits, log } = options
  const places = new Map<string, Places>()
  const open = new Set<Socket>()
  /** In the order of arrival. */
  const unpaired = new Set<Socket>()

  function accept(socket: Socket): void {
    open.add(socket)
    unpaired.add(socket)
    if (unpaired.size > limits.maxUnpaired) unpaired.values().next().value?.destroy()
    const deadline = setTimeout(() => socket.destroy(), limits.requestMs)
    socket.setNoDelay(true)
    socket.setKeepAlive(true, 5000)
    socket.on('error', (error) => log('debug', `A relayed connection failed: ${error.message}`))
    socket.on('close', () => {
      clearTimeout(deadline)
      open.delete(socket)
      unpaired.delete(socket)
    })
    let held = Buffer.alloc(0)
    socket.on('data', function onRequest(chunk: Buffer) {
      held = Buffer.concat([held, chunk])
      const newline = held.indexOf(0x0a)
      if (newline === -1 && held.length < relayLineBytes) return
      socket.off('data', onRequest)
      clearTimeout(deadline)
      // Nothing may follow the request before the answer, so held bytes after the newline are a violation.
      const request = newline === held.length - 1 && held.length <= relayLineBytes ? parseRequest(held) : null
      const pair = request && places.get(request.token)
      if (!pair) {
        log('warn', 'A connection to the relay was refused: no open migration has its token, or it broke the protocol.', {
          from: socket.remoteAddress,
        })
        return void socket.destroy()
      }
      socket.pause()
      place(socket, pair, request.role)
    })
  }

  function place(socket: Socket, pair: Places, role: AgentRole): void {
    pair[role]?.destroy()
    pair[role] = socket
    const waiting = setTimeout(() => socket.destroy(), limits.unpairedMs)
    socket.on('close', () => {
      clearTimeout(waiting)
      if (pair[role] === socket) pair[role] = null
    })
    const peer = pair[role === 'SOURCE' ? 'DESTINATION' : 'SOURCE']
    if (!peer) return void socket.once('paired', () => clearTimeout(waiting))
    if (!unpaired.has(peer)) {
      // The peer's pipe belongs to a connection that this one replaces: both ends start over.
      peer.destroy()
      return void socket.once('paired', () => clearTimeout(waiting))
    }
    clearTimeout(waiting)
    peer.emit('paired')
    join(socket, peer)
  }

  function join(one: Socket, other: Socket): void {
    const paired: RelayPaired = { paired: {} }
    for (const [from, to] of [
      [one, other],
      [other, one],
    ] as const) {
      unpaired.delete(from)
      from.write(`${JSON.stringify(paired)}\n`)
      from.setTimeout(limits.idleMs, () => from.destroy())
      from.on('close', () => to.destroySoon())
      from.pipe(to)
    }
  }

  async function close(): Promise<void> {
    const closed = servers.map((server) => once(server, 'close'))
    for (const server of servers) server.close()
    for (const socket of open) socket.destroy()
    await Promise.all(closed)
  }

  const servers: Server[] = []
  try {
    for (const address of options.listen) {
      const server = createServer({ allowHalfOpen: true }, accept)
      server.listen(address.port, address.host)
      await once(server, 'listening')
      servers.push(server)
    }
  } catch (error) {
    await close()
    throw error
  }
  return {
    addresses: servers.map((server) => {
      const { address, port } = server.address() as AddressInfo
      return { host: address, port }
    }),
    admit(token) {
      if (!places.has(token)) places.set(token, { SOURCE: null, DESTINATION: null })
    },
    expel(token) {
      const pair = places.get(token)
      places.delete(token)
      pair?.SOURCE?.destroy()
      pair?.DESTINATION?.destroy()
    },
    close,
  }
}

function parseRequest(line: Buffer): RelayRequest['relay'] | null {
  try {
    return relayRequest.parse(JSON.parse(line.toString('utf8'))).relay
  } catch {
    return null
  }
}
