/**
 * One data connection between two agents: frames over TLS 1.3 with certificates of this migration on both sides. The peer is known by its certificate
 * (CA, CN = role, O = migration's id), never by a host name. Silence of `silenceMs` counts as a cut; each side pings when it has nothing else to say.
 *
 *   handshake -> open -> closed     a closed channel is never opened again: the link makes another
 */
import type { Socket } from 'node:net'
import * as tls from 'node:tls'
import { createChannelWriter } from './channel-writer.ts'
import type { AgentRole } from './control-protocol.ts'
import { frameTypes } from './data-messages.ts'
import { createFrameDecoder, encodeFrameHeader, type Frame } from './frame.ts'
import { TransferError } from './transfer-error.ts'
import type { WirePace } from './wire-pace.ts'

/** What an agent proves itself with, all PEM. */
export interface AgentIdentity {
  migrationId: string
  role: AgentRole
  privateKeyPem: string
  certificatePem: string
  caCertificatePem: string
}

export interface Channel {
  /** Frames go out in the order of the calls. Resolves when the kernel has taken it, and the parts may be reused; rejects with LINK_LOST. */
  send(type: number, sequence: number, ...parts: Buffer[]): Promise<void>
  /** Starts the reading, or hands it to another handler. A handler that throws closes the channel with its error. */
  start(onFrame: (frame: Frame) => void): void
  /** Stops or lets go on the reading, so that the peer feels it. */
  pause(): void
  resume(): void
  /** On the wire, TLS included, both directions. */
  readonly wireBytes: number
  /** What the peer must decide on: who closed it and why. Never rejects. */
  readonly closed: Promise<TransferError>
  close(reason: TransferError): void
}

const pingEveryMs = 2000
const silenceMs = 10_000
const handshakeMs = 15_000

/** Preferred by measurement (docs/decisions/0010-agent-digest-and-cipher.md); a peer picks its own order. */
const cipherSuites = 'TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384'

/** Runs the TLS handshake over a connected socket. `pace` holds what is sent to a limit. Throws TransferError LINK_LOST or PEER_REFUSED, and destroys the socket then. */
export function openChannel(socket: Socket, identity: AgentIdentity, signal?: AbortSignal, pace?: WirePace): Promise<Channel> {
  return new Promise((resolve, reject) => {
    socket.setNoDelay(true)
    const options = {
      key: identity.privateKeyPem,
      cert: identity.certificatePem,
      ca: identity.caCertificatePem,
      minVersion: 'TLSv1.3',
      ciphers: cipherSuites,
    } as const
    let secure: tls.TLSSocket | null = null
    const timer = setTimeout(() => fail(linkLost(`no handshake within ${handshakeMs} ms`)), handshakeMs)
    const onAbort = () => fail(linkLost('the agent was told to stop'))
    const onError = (error: Error) => fail(refusedOrLost(error))
    const onClose = () => fail(linkLost('it was closed during the handshake'))

    function settle(): void {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      secure?.off('error', onError).off('close', onClose)
      socket.off('error', onError).off('close', onClose)
    }
    function fail(error: TransferError): void {
      settle()
      secure?.on('error', () => {})
      socket.on('error', () => {})
      secure?.destroy()
      socket.destroy()
      reject(error)
    }
    function ready(over: tls.TLSSocket): void {
      secure = over
      const refusal = refusePeer(over, identity)
      if (refusal) return fail(refusal)
      settle()
      resolve(channelOver(over, socket, pace))
    }
    signal?.addEventListener('abort', onAbort)
    socket.on('error', onError).on('close', onClose)
    if (identity.role === 'SOURCE') {
      const client = tls.connect({ ...options, socket, checkServerIdentity: () => undefined })
      secure = client
      client.on('error', onError).on('close', onClose)
      client.once('secureConnect', () => ready(client))
    } else {
      // A server that never listens, over the socket it is handed. It asks for a certificate; refusePeer judges it, so that a refusal has its reason.
      const server = tls.createServer({ ...options, requestCert: true, rejectUnauthorized: false, honorCipherOrder: true })
      server.once('tlsClientError', onError)
      server.once('secureConnection', ready)
      server.emit('connection', socket)
    }
  })
}

/** The certificate's subject decides. Null when the peer is the counterpart in this migration. */
function refusePeer(secure: tls.TLSSocket, identity: AgentIdentity): TransferError | null {
  const expected = identity.role === 'SOURCE' ? 'DESTINATION' : 'SOURCE'
  if (!secure.authorized) return refused(`its certificate was not made for this migration (${String(secure.authorizationError)})`)
  const subject = secure.getPeerCertificate().subject as unknown as Record<string, unknown> | undefined
  if (!subject) return refused('it has no certificate')
  if (subject['CN'] === expected && subject['O'] === identity.migrationId) return null
  return refused(
    `its certificate says ${String(subject['CN'])} of ${String(subject['O'])} instead of ${expected} of ${identity.migrationId}`,
  )
}

function channelOver(secure: tls.TLSSocket, socket: Socket, pace?: WirePace): Channel {
  const decoder = createFrameDecoder()
  const closed = Promise.withResolvers<TransferError>()
  let reason: TransferError | null = null
  let onFrame: ((frame: Frame) => void) | null = null
  let heardAt = performance.now()
  let saidAt = heardAt
  let lastSent: Promise<void> = Promise.resolve()
  const wireBytes = () => socket.bytesRead + socket.bytesWritten
  const writer = createChannelWriter(secure, { wireBytes, pace, failure: (error) => reason ?? linkLost(error.message) })

  function close(why: TransferError): void {
    if (reason) return
    reason = why
    clearInterval(heartbeat)
    secure.destroy()
    socket.destroy()
    closed.resolve(why)
  }
  function guarded(work: () => void): void {
    try {
      work()
    } catch (error) {
      close(error instanceof TransferError ? error : new TransferError('INTERNAL', String(error), { retryable: true, cause: error }))
    }
  }

  function send(type: number, sequence: number, ...parts: Buffer[]): Promise<void> {
    if (reason) return Promise.reject(reason)
    saidAt = performance.now()
    const payloadBytes = parts.reduce((sum, part) => sum + part.length, 0)
    const before = lastSent
    const sent = (async () => {
      await before
      if (reason) throw reason
      await writer.write([encodeFrameHeader(type, sequence, payloadBytes), ...parts])
    })()
    lastSent = sent.catch(() => {})
    return sent
  }

  const heartbeat = setInterval(() => {
    const now = performance.now()
    if (now - heardAt > silenceMs && !secure.isPaused()) close(linkLost(`nothing was heard for ${silenceMs} ms`))
    else if (now - saidAt >= pingEveryMs && onFrame) send(frameTypes.ping, 0).catch(() => {})
  }, pingEveryMs / 2)
  heartbeat.unref()

  secure.on('error', (error) => close(refusedOrLost(error)))
  socket.on('error', (error) => close(linkLost(error.message)))
  secure.on('close', () => close(linkLost('the other side closed it')))
  secure.on('end', () => guarded(() => decoder.end()))

  return {
    send,
    start(handler) {
      const reading = onFrame !== null
      onFrame = handler
      if (reading) return
      heardAt = performance.now()
      secure.on('data', (chunk: Buffer) =>
        guarded(() => {
          heardAt = performance.now()
          for (const frame of decoder.push(chunk)) if (!reason && frame.type !== frameTypes.ping) onFrame?.(frame)
        }),
      )
    },
    pause: () => void secure.pause(),
    resume() {
      heardAt = performance.now()
      secure.resume()
    },
    get wireBytes() {
      return wireBytes()
    },
    closed: closed.promise,
    close,
  }
}

function refusedOrLost(error: Error & { code?: string }): TransferError {
  const aboutCertificates = /certificate|unknown ca|UNABLE_TO_|_CERT|CERT_/i.test(`${error.code} ${error.message}`)
  return aboutCertificates ? refused(error.message) : linkLost(error.message)
}

function refused(reason: string): TransferError {
  return new TransferError('PEER_REFUSED', `The other agent is refused: ${reason}. Nothing was sent to it.`, { retryable: false })
}

export function linkLost(reason: string): TransferError {
  return new TransferError('LINK_LOST', `The connection between the agents is lost: ${reason}.`, {
    retryable: true,
  })
}
