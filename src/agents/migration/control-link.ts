/**
 * The agent's connection to the control plane: enrols once, then dials for ever, and answers requests. A request under an id that was answered is answered
 * again as it was; one that runs is joined.
 *
 *   enrolling -> (dialling <-> connected)*       until `close`
 *
 * Once less than half of its certificate's life is left, the same key is certified anew, whether the link is up or down: the data link needs it too.
 */
import { createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import * as tls from 'node:tls'
import type { AgentIdentity } from '../../transfer/channel.ts'
import { isControlMethod, parseEnrolmentAnswer, parseParams, parseRequest } from '../../transfer/control-messages.ts'
import type { AgentBootstrap, AgentHello, ControlMethod, ControlRequests, RoundProgress } from '../../transfer/control-protocol.ts'
import { TransferError } from '../../transfer/transfer-error.ts'
import { readJsonLines } from './json-lines.ts'

type Log = (message: string) => void

export type ControlHandlers = { [M in ControlMethod]?: (params: ControlRequests[M][0]) => Promise<ControlRequests[M][1]> }

export interface ControlLink {
  /** Dropped while no connection lives: the next one says it all. */
  report(progress: RoundProgress): void
  close(): void
}

const connectMs = 10_000
const maxPauseMs = 2000
/** A control plane that vanished without a word is noticed by TCP's keep-alive, and dialled again. */
const keepAliveMs = 5000
const rememberedAnswers = 256
/** After an attempt to renew the certificate that did not help. */
const renewAgainMs = 60_000
/** The control plane takes a connection on which nothing comes for four times as long for a lost one. */
const aliveEveryMs = 5_000

/**
 * Has the control plane certify the key of this guest, which is born here, and kept at `keyPath` (in RAM) so that a restarted agent can enrol again: the token
 * works for one key. Tries for ever; throws TransferError PEER_REFUSED when the control plane refuses.
 */
export async function enrol(bootstrap: AgentBootstrap, keyPath: string, signal: AbortSignal, log: Log): Promise<AgentIdentity> {
  const privateKeyPem = keyOfThisGuest(keyPath)
  const { migrationId, role, caCertificatePem } = bootstrap
  const certificatePem = await insistently(signal, log, () => certify(bootstrap, privateKeyPem, signal))
  return { migrationId, role, privateKeyPem, certificatePem, caCertificatePem }
}

/** One attempt. Throws TransferError PEER_REFUSED when the control plane refuses. */
async function certify(bootstrap: AgentBootstrap, privateKeyPem: string, signal: AbortSignal): Promise<string> {
  const { enrolmentToken, role } = bootstrap
  const publicKeyPem = createPublicKey(privateKeyPem).export({ type: 'spki', format: 'pem' })
  const socket = await connectToControlPlane(bootstrap, null, signal)
  try {
    return await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('The control plane did not answer the enrolment.')), connectMs)
      socket.once('close', () => {
        clearTimeout(timer)
        reject(new Error('The control plane closed the connection during enrolment.'))
      })
      socket.on('error', reject)
      const onAnswer = (value: unknown) => {
        try {
          resolve(parseEnrolmentAnswer(value).certificatePem)
        } catch (error) {
          reject(error)
        }
      }
      readJsonLines(socket, onAnswer, (reason) => reject(new Error(`The control plane broke the protocol: ${reason}.`)))
      socket.write(`${JSON.stringify({ enrol: { token: enrolmentToken, role, publicKeyPem } })}\n`)
    })
  } finally {
    socket.destroy()
  }
}

function lessThanHalfIsLeft(certificatePem: string): boolean {
  const { validFrom, validTo } = new X509Certificate(certificatePem)
  return Date.now() > (Date.parse(validFrom) + Date.parse(validTo)) / 2
}

function keyOfThisGuest(path: string): string {
  if (existsSync(path)) return readFileSync(path, 'utf8')
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' })
  writeFileSync(path, pem, { mode: 0o600, flag: 'wx' })
  return pem
}

/** Puts a new certificate into `identity` when it is time for one; whoever dials reads it there. */
export function openControlLink(
  bootstrap: AgentBootstrap,
  identity: AgentIdentity,
  gatherHello: () => Promise<AgentHello>,
  handlers: ControlHandlers,
  log: Log,
): ControlLink {
  const closing = new AbortController()
  const answers = new Map<string, Promise<object>>()
  let socket: tls.TLSSocket | null = null
  let renewing: Promise<void> | null = null
  let renewFrom = 0
  let lastRefusal = ''

  function send(message: object): void {
    if (socket && !socket.destroyed) socket.write(`${JSON.stringify(message)}\n`)
  }

  function renewWhenDue(): Promise<void> {
    if (performance.now() < renewFrom || !lessThanHalfIsLeft(identity.certificatePem)) return Promise.resolve()
    renewing ??= renew()
    return renewing
  }

  /** Never rejects: what is left of the certificate's life may do, and the next time may be better. */
  async function renew(): Promise<void> {
    try {
      const certificatePem = await certify(bootstrap, identity.privateKeyPem, closing.signal)
      // By a clock that is far ahead, every certificate is an old one.
      if (lessThanHalfIsLeft(certificatePem)) renewFrom = performance.now() + renewAgainMs
      identity.certificatePem = certificatePem
    } catch (error) {
      renewFrom = performance.now() + renewAgainMs
      if (String(error) !== lastRefusal) log(`certificate: ${String(error)}`)
      lastRefusal = String(error)
    } finally {
      renewing = null
    }
  }

  async function perform(method: string, params: unknown): Promise<object> {
    if (!isControlMethod(method))
      throw new TransferError('INVALID_REQUEST', `This agent knows no method ${JSON.stringify(method)}.`, { retryable: false })
    const handler = handlers[method] as ((params: unknown) => Promise<object>) | undefined
    if (!handler) throw new TransferError('INVALID_REQUEST', `The ${bootstrap.role} agent does not do ${method}.`, { retryable: false })
    return handler(parseParams(method, params))
  }

  function answerTo(id: string, method: string, params: unknown): Promise<object> {
    const known = answers.get(id)
    if (known) return known
    const answer = perform(method, params).then(
      (result) => ({ id, result }),
      (error: unknown) => {
        log(`${method} failed: ${String(error)}`)
        return { id, error: describe(error) }
      },
    )
    answers.set(id, answer)
    if (answers.size > rememberedAnswers) for (const [oldest] of answers) if (answers.delete(oldest)) break
    return answer
  }

  async function serve(connection: tls.TLSSocket): Promise<void> {
    // Before anything is awaited: a connection that ends meanwhile says so only once.
    const ended = new Promise<void>((resolve) => connection.once('close', () => resolve()))
    const hello = await gatherHello()
    if (connection.destroyed) return
    socket = connection
    const broken = (reason: string) => void connection.destroy(new Error(reason))
    readJsonLines(
      connection,
      (value) => {
        try {
          const { id, method, params } = parseRequest(value)
          void answerTo(id, method, params).then((response) => send({ response }))
        } catch (error) {
          broken(String(error))
        }
      },
      broken,
    )
    send({ hello })
    const pulse = setInterval(() => {
      send({ alive: true })
      void renewWhenDue()
    }, aliveEveryMs)
    await ended
    clearInterval(pulse)
    if (socket === connection) socket = null
  }

  void insistently(closing.signal, log, async () => {
    await renewWhenDue()
    const connection = await connectToControlPlane(bootstrap, identity, closing.signal)
    connection.on('error', (error) => log(`control plane: ${error.message}`))
    if (!connection.destroyed) await serve(connection)
    throw new Error('The connection to the control plane ended.')
  }).catch(() => {})

  return {
    report: (progress) => send({ progress }),
    close() {
      closing.abort()
      socket?.end()
    },
  }
}

/** Repeats until it works, with a pause that grows to 2 s; gives up when the signal aborts or the control plane says no. A reason is logged when it is another one than the last. */
async function insistently<T>(signal: AbortSignal, log: Log, attempt: () => Promise<T>): Promise<T> {
  let lastReason = ''
  for (let pauseMs = 100; ; pauseMs = Math.min(maxPauseMs, pauseMs * 2)) {
    const startedAt = performance.now()
    try {
      return await attempt()
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof TransferError && error.code === 'PEER_REFUSED') throw error
      const reason = String(error)
      if (reason !== lastReason) log(`control plane: ${reason}`)
      lastReason = reason
      // A connection that had lasted is dialled again at once.
      if (performance.now() - startedAt > connectMs) pauseMs = 100
    }
    await sleep(pauseMs, undefined, { signal })
  }
}

async function connectToControlPlane(
  bootstrap: AgentBootstrap,
  identity: AgentIdentity | null,
  signal: AbortSignal,
): Promise<tls.TLSSocket> {
  let failure: unknown = new Error('The bootstrap file names no control plane.')
  for (const { host, port } of bootstrap.controlPlane) {
    try {
      return await connectSecurely(host, port, bootstrap, identity, signal)
    } catch (error) {
      failure = error
    }
    signal.throwIfAborted()
  }
  throw failure
}

function connectSecurely(
  host: string,
  port: number,
  bootstrap: AgentBootstrap,
  identity: AgentIdentity | null,
  signal: AbortSignal,
): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    const connection = tls.connect({
      host,
      port,
      servername: bootstrap.serverName,
      ca: bootstrap.caCertificatePem,
      minVersion: 'TLSv1.3',
      ...(identity ? { key: identity.privateKeyPem, cert: identity.certificatePem } : {}),
    })
    connection.setKeepAlive(true, keepAliveMs)
    const timer = setTimeout(() => connection.destroy(new Error(`${host}:${port} did not answer within ${connectMs} ms.`)), connectMs)
    const onAbort = () => connection.destroy(new Error('The agent ends.'))
    signal.addEventListener('abort', onAbort)
    connection.once('close', () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      reject(new Error(`${host}:${port} closed the connection.`))
    })
    connection.on('error', reject)
    connection.once('secureConnect', () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      resolve(connection)
    })
  })
}

function describe(error: unknown): { code: string; message: string; retryable: boolean } {
  if (error instanceof TransferError) return { code: error.code, message: error.message, retryable: error.retryable }
  return { code: 'INTERNAL', message: `The agent failed: ${error instanceof Error ? error.message : String(error)}`, retryable: true }
}
