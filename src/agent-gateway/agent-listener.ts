/**
 * Where agents dial in: TLS 1.3, the migration chosen by SNI, each with a certificate of its own authority. Without a client certificate
 * a connection can enrol and nothing else; with one it must be that of an enrolled agent of this very migration. Everything a stranger
 * can do here is bounded (listener-limits.ts), and ends in one logged sentence.
 *
 *   handshake          -> enrol -> certificate -> end
 *   handshake (mutual) -> hello -> admitted
 */
import { constants } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { callbackify } from 'node:util'
import { createServer, type SecureContext, type Server, type TLSSocket } from 'node:tls'
import { controlProtocol, type AgentHello, type AgentRole } from '../transfer/control-protocol.ts'
import { openAgentConnection, type AgentConnection } from './agent-connection.ts'
import { parseEnrolRequest } from './agent-messages.ts'
import type { GatewayLog } from './gateway-log.ts'
import { readLines } from './line-reader.ts'
import type { ListenerLimits } from './listener-limits.ts'
import { EnrolmentRefused, type MigrationTrust } from './migration-trust.ts'

export interface ListenAddress {
  host: string
  port: number
}

/** A migration that agents may dial in to. */
export interface OpenMigration {
  migrationId: string
  trust: MigrationTrust
  admit(hello: AgentHello, connection: AgentConnection): void
}

export interface AgentListener {
  /** With the ports that were given out where 0 was asked for. */
  addresses: ListenAddress[]
  close(): Promise<void>
}

type RefusalCode = 'ENROLMENT_REFUSED' | 'CERTIFICATE_REFUSED' | 'PROTOCOL'

export async function createAgentListener(options: {
  listen: ListenAddress[]
  limits: ListenerLimits
  find: (serverName: string) => OpenMigration | undefined
  log: GatewayLog
}): Promise<AgentListener> {
  const { limits, find, log } = options
  const servers: Server[] = []
  const open = new Set<TLSSocket>()
  /** In the order of arrival. */
  const ungreeted = new Set<TLSSocket>()

  function refuse(socket: TLSSocket, code: RefusalCode, message: string): void {
    log('warn', `An agent's connection was refused: ${message}`, { code, from: socket.remoteAddress, serverName: socket.servername })
    if (!socket.destroyed) socket.end(`${JSON.stringify({ refused: { code, message } })}\n`)
    // Unread input would turn the end into a reset, which can overtake the sentence. A refused peer doesn't get to hold a socket either.
    socket.resume()
    setTimeout(() => socket.destroy(), 1000).unref()
  }

  function accept(socket: TLSSocket): void {
    open.add(socket)
    ungreeted.add(socket)
    const deadline = setTimeout(() => socket.destroy(), limits.greetingMs)
    const greeted = () => {
      clearTimeout(deadline)
      ungreeted.delete(socket)
    }
    socket.on('error', (error) => log('debug', `An agent's connection failed: ${error.message}`, { serverName: socket.servername }))
    socket.on('close', () => {
      greeted()
      open.delete(socket)
    })
    socket.setKeepAlive(true, 5000)
    socket.setNoDelay(true)
    if (ungreeted.size > limits.maxUngreeted) ungreeted.values().next().value?.destroy()

    const migration = find(socket.servername || '')
    if (!migration) return void socket.destroy()
    const certificate = socket.getPeerX509Certificate()
    if (!certificate) return enrol(socket, migration)
    if (!socket.authorized) {
      return refuse(socket, 'CERTIFICATE_REFUSED', `The certificate is not valid here (${String(socket.authorizationError)}).`)
    }
    try {
      converse(socket, migration, migration.trust.roleOf(certificate), greeted)
    } catch (error) {
      refuse(socket, 'CERTIFICATE_REFUSED', error instanceof Error ? error.message : String(error))
    }
  }

  function enrol(socket: TLSSocket, migration: OpenMigration): void {
    const answer = async (line: string): Promise<void> => {
      try {
        const request = parseEnrolRequest(line)
        const certificatePem = await migration.trust.enrol(request)
        log('info', `The ${request.role} agent of migration ${migration.migrationId} enrolled.`)
        if (!socket.destroyed) socket.end(`${JSON.stringify({ certificate: { certificatePem } })}\n`)
      } catch (error) {
        if (error instanceof EnrolmentRefused) return refuse(socket, 'ENROLMENT_REFUSED', error.message)
        if (error instanceof TypeError) return refuse(socket, 'PROTOCOL', error.message)
        // Ours, such as a database that can't be written: the agent comes back.
        log('error', `An enrolment in migration ${migration.migrationId} failed; the agent will try again.`, { error })
        socket.destroy()
      }
    }
    const lines = readLines(
      socket,
      { maxLineBytes: limits.maxEnrolLineBytes, partialLineMs: limits.greetingMs },
      {
        violation: (reason) => refuse(socket, 'PROTOCOL', reason),
        line(line) {
          lines.stop()
          void answer(line)
        },
      },
    )
  }

  function converse(socket: TLSSocket, migration: OpenMigration, role: AgentRole, greeted: () => void): void {
    openAgentConnection(socket, limits, {
      refuse: (reason) => refuse(socket, 'PROTOCOL', `The ${role} agent broke the protocol: ${reason}.`),
      first(message, connection) {
        if (!('hello' in message)) throw new TypeError('the first message is not hello')
        const { hello } = message
        if (hello.protocol.major !== controlProtocol.major) {
          throw new TypeError(`the agent speaks protocol ${hello.protocol.major}, and the control plane ${controlProtocol.major}`)
        }
        if (hello.role !== role || hello.migrationId !== migration.migrationId) {
          throw new TypeError('hello names another role or migration than the certificate')
        }
        greeted()
        migration.admit(hello, connection)
      },
    })
  }

  async function certificateFor(serverName: string): Promise<SecureContext> {
    const migration = find(serverName)
    if (!migration) throw new Error('no open migration has that name')
    return migration.trust.secureContext()
  }

  async function close(): Promise<void> {
    const closed = servers.map((server) => once(server, 'close'))
    for (const server of servers) server.close()
    for (const socket of open) socket.destroy()
    await Promise.all(closed)
  }

  try {
    for (const address of options.listen) {
      const server = createServer({
        SNICallback: callbackify(certificateFor),
        minVersion: 'TLSv1.3',
        requestCert: true,
        // We decide, with a sentence, instead of a bare TLS alert; see accept.
        rejectUnauthorized: false,
        handshakeTimeout: limits.handshakeMs,
        // Every connection proves its certificate afresh: a resumed one would carry the verdict of an earlier one.
        secureOptions: constants.SSL_OP_NO_TICKET,
      })
      server.maxConnections = limits.maxConnections
      server.on('secureConnection', accept)
      server.on('tlsClientError', (error, socket) => {
        log('debug', `A TLS handshake with the agent listener failed: ${error.message}`, { from: socket.remoteAddress })
        socket.destroy()
      })
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
    close,
  }
}
