/** An agent reduced to its sockets, so that tests can also misbehave. */
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls'
import type { AgentBootstrap, AgentHello } from '../../src/transfer/control-protocol.ts'

export interface KeyPair {
  publicKeyPem: string
  privateKeyPem: string
}

export function newKeyPair(): KeyPair {
  const { publicKey, privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  })
  return { publicKeyPem: publicKey, privateKeyPem: privateKey }
}

export interface Dialled {
  socket: TLSSocket
  send(message: unknown): void
  /** The next line, parsed; null once the other side has ended. */
  next(): Promise<unknown>
}

/** Rejects when the handshake fails. */
export async function dial(bootstrap: AgentBootstrap, options: ConnectionOptions = {}): Promise<Dialled> {
  const { host, port } = bootstrap.controlPlane[0]!
  const socket = connect({
    host,
    port,
    servername: bootstrap.serverName,
    ca: bootstrap.caCertificatePem,
    minVersion: 'TLSv1.3',
    ...options,
  })
  await once(socket, 'secureConnect')
  // What a test does not wait for must not fail it, such as a reset after a refusal.
  socket.on('error', () => undefined)
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]()
  return {
    socket,
    send: (message) => void socket.write(`${JSON.stringify(message)}\n`),
    async next() {
      const { value, done } = await lines.next()
      return done ? null : (JSON.parse(value) as unknown)
    },
  }
}

/** Gives the server's answer: a certificate or a refusal. */
export async function enrol(bootstrap: AgentBootstrap, keys: KeyPair): Promise<Record<string, { certificatePem?: string; code?: string }>> {
  const connection = await dial(bootstrap)
  connection.send({ enrol: { token: bootstrap.enrolmentToken, role: bootstrap.role, publicKeyPem: keys.publicKeyPem } })
  const answer = await connection.next()
  connection.socket.destroy()
  return answer as Record<string, { certificatePem?: string; code?: string }>
}

export interface Identity {
  key: string
  cert: string
}

export async function enrolled(bootstrap: AgentBootstrap, keys: KeyPair = newKeyPair()): Promise<Identity> {
  const answer = await enrol(bootstrap, keys)
  return { key: keys.privateKeyPem, cert: answer['certificate']!.certificatePem! }
}

export function helloOf(bootstrap: AgentBootstrap, changes: Partial<AgentHello> = {}): AgentHello {
  return {
    protocol: { major: 1, minor: 0 },
    role: bootstrap.role,
    migrationId: bootstrap.migrationId,
    agentInstanceId: randomUUID(),
    bootId: randomUUID(),
    architecture: 'x86_64',
    kernelRelease: '6.1.0',
    libc: 'glibc 2.36',
    memoryTotalBytes: 536_862_720,
    memoryAvailableBytes: 300_000_000,
    disks: [{ name: 'vda', sizeBytes: 2_147_483_648, serial: null, mounts: [], root: true, swap: false }],
    ...changes,
  }
}
