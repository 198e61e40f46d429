import { generateKeyPairSync } from 'node:crypto'
import { createServer, type AddressInfo, type Server } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { makeCertificateAuthority, type CertificateAuthority } from '../../src/agent-gateway/certificate-authority.ts'
import { connectToDestination, type DataLinkTarget } from '../../src/agents/migration/data-link.ts'
import { openChannel, type AgentIdentity, type Channel } from '../../src/transfer/channel.ts'
import type { AgentRole } from '../../src/transfer/control-protocol.ts'
import { createWirePace } from '../../src/transfer/wire-pace.ts'

async function identityOf(authority: CertificateAuthority, migrationId: string, role: AgentRole): Promise<AgentIdentity> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return {
    migrationId,
    role,
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    certificatePem: await authority.issueLeaf(role, publicKey.export({ type: 'spki', format: 'pem' })),
    caCertificatePem: authority.certificatePem,
  }
}

describe('a destination that is alive and never introduces itself', () => {
  let server: Server
  let source: AgentIdentity
  let met: Promise<Channel>[]
  const connect = (timeoutMs: number, signal: AbortSignal) =>
    connectToDestination(
      { endpoints: [{ host: '127.0.0.1', port: (server.address() as AddressInfo).port }], relay: null },
      source,
      timeoutMs,
      signal,
      createWirePace(),
    )

  beforeEach(async () => {
    const authority = await makeCertificateAuthority('m-1')
    source = await identityOf(authority, 'm-1', 'SOURCE')
    const destination = await identityOf(authority, 'm-1', 'DESTINATION')
    met = []
    server = createServer((socket) => {
      const channel = openChannel(socket, destination)
      met.push(channel)
      // It hears, and says no more than its pings.
      void channel.then(({ start }) => start(() => {}))
    }).listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
  })
  afterEach(() => server.close())

  test('is left within the time that there is, as one whose link is lost', { timeout: 10_000 }, async () => {
    await expect(connect(1000, new AbortController().signal)).rejects.toMatchObject({ code: 'LINK_LOST', retryable: true })
    const [channel] = await Promise.all(met)
    expect(await channel?.closed).toMatchObject({ code: 'LINK_LOST' })
  })

  test('does not keep a stop waiting', { timeout: 5000 }, async () => {
    const stop = new AbortController()
    const connected = connect(60_000, stop.signal)
    setTimeout(() => stop.abort(new Error('stopped')), 500)
    await expect(connected).rejects.toThrow('stopped')
  })
})

test(
  'a stranger at an old address, while the way in use is away, is a link that is lost: it may work again',
  { timeout: 10_000 },
  async () => {
    const [own, foreign] = [await makeCertificateAuthority('m-1'), await makeCertificateAuthority('m-2')]
    const source = await identityOf(own, 'm-1', 'SOURCE')
    const stranger = await identityOf(foreign, 'm-2', 'DESTINATION')
    const server = createServer((socket) => void openChannel(socket, stranger).catch(() => {})).listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const endpoint = { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
    const relay = { host: '127.0.0.1', port: 1, token: 'of the relay' }
    const connect = (target: DataLinkTarget) => connectToDestination(target, source, 500, new AbortController().signal, createWirePace())
    try {
      await expect(connect({ endpoints: [endpoint], relay })).rejects.toMatchObject({
        code: 'LINK_LOST',
        retryable: true,
        message: expect.stringContaining('is refused'),
      })
      await expect(connect({ endpoints: [endpoint], relay: null })).rejects.toMatchObject({ code: 'PEER_REFUSED', retryable: false })
    } finally {
      server.close()
    }
  },
)
