import { generateKeyPairSync } from 'node:crypto'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { makeCertificateAuthority, type CertificateAuthority } from '../../src/agent-gateway/certificate-authority.ts'
import { inWholeRecords } from '../../src/transfer/channel-writer.ts'
import { openChannel, type AgentIdentity, type Channel } from '../../src/transfer/channel.ts'
import type { AgentRole } from '../../src/transfer/control-protocol.ts'
import { TransferError } from '../../src/transfer/transfer-error.ts'

let authority: CertificateAuthority
let server: Server
let sockets: Socket[]

async function identityOf(role: AgentRole, by = authority, migrationId = 'm-1', trusts = authority): Promise<AgentIdentity> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return {
    migrationId,
    role,
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    certificatePem: await by.issueLeaf(role, publicKey.export({ type: 'spki', format: 'pem' })),
    caCertificatePem: trusts.certificatePem,
  }
}
/** Both ends of a TCP connection. */
async function socketPair(): Promise<{ near: Socket; far: Socket }> {
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve))
  const near = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const far = await accepted
  sockets.push(near, far)
  return { near, far }
}
/** What comes of a meeting: for each side a channel or why not. A refusal reaches the client of TLS 1.3 after its handshake, so it waits for the first word. */
async function meet(
  source: AgentIdentity,
  destination: AgentIdentity,
): Promise<{ source: Channel | TransferError; destination: Channel | TransferError }> {
  const { near, far } = await socketPair()
  const failed = (error: unknown) => error as TransferError
  const [first, second] = await Promise.all([openChannel(near, source).catch(failed), openChannel(far, destination).catch(failed)])
  return { source: first, destination: second }
}
async function endOf(side: Channel | TransferError): Promise<TransferError> {
  if (side instanceof TransferError) return side
  side.start(() => {})
  return side.closed
}

beforeEach(async () => {
  sockets = []
  authority = await makeCertificateAuthority('m-1')
  server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
})
afterEach(() => {
  for (const socket of sockets) socket.destroy()
  server.close()
})

describe('two agents on one connection', () => {
  test('talk when both belong to the migration, and count every byte on the wire', async () => {
    const { source, destination } = await meet(await identityOf('SOURCE'), await identityOf('DESTINATION'))
    if (source instanceof TransferError || destination instanceof TransferError) throw new Error('no channel')
    const heard = new Promise<string>((resolve) =>
      destination.start((frame) => resolve(`${frame.type} ${frame.sequence} ${Buffer.concat(frame.payload).toString()}`)),
    )
    await source.send(8, 3, Buffer.from('in two '), Buffer.from('parts'))
    expect(await heard).toBe('8 3 in two parts')
    expect(source.wireBytes).toBeGreaterThan(500)
  })

  test('part when the destination has a certificate of another authority', async () => {
    const other = await makeCertificateAuthority('m-1')
    const { source } = await meet(await identityOf('SOURCE'), await identityOf('DESTINATION', other))
    expect(source).toMatchObject({ code: 'PEER_REFUSED', retryable: false })
  })

  test('part when the source has one', async () => {
    const other = await makeCertificateAuthority('m-1')
    const { source, destination } = await meet(await identityOf('SOURCE', other), await identityOf('DESTINATION'))
    expect(destination).toMatchObject({ code: 'PEER_REFUSED' })
    expect((await endOf(source)).code).toMatch(/PEER_REFUSED|LINK_LOST/)
  })

  test('part when one of them is of another migration', async () => {
    const { source } = await meet(await identityOf('SOURCE', authority, 'm-2'), await identityOf('DESTINATION'))
    expect(source).toMatchObject({
      code: 'PEER_REFUSED',
      message: expect.stringContaining('DESTINATION of m-1 instead of DESTINATION of m-2'),
    })
  })

  test('part when a source takes the place of a destination', async () => {
    const pretender = { ...(await identityOf('SOURCE')), role: 'DESTINATION' as const }
    const { source } = await meet(await identityOf('SOURCE'), pretender)
    expect(source).toMatchObject({ code: 'PEER_REFUSED' })
  })

  test('end with a typed error when what comes is no TLS', async () => {
    const { near, far } = await socketPair()
    const opening = openChannel(far, await identityOf('DESTINATION')).catch((error: unknown) => error)
    near.on('error', () => {}).write('GET / HTTP/1.1\r\n\r\n')
    expect(await opening).toMatchObject({ code: 'LINK_LOST' })
  })

  test('end with a typed error when what comes through TLS is no frame', async () => {
    const { source, destination } = await meet(await identityOf('SOURCE'), await identityOf('DESTINATION'))
    if (source instanceof TransferError || destination instanceof TransferError) throw new Error('no channel')
    destination.start(() => {
      throw new TransferError('PROTOCOL', 'out of turn', { retryable: true })
    })
    await source.send(1, 1)
    expect(await destination.closed).toMatchObject({ code: 'PROTOCOL' })
    expect(await endOf(source)).toMatchObject({ code: 'LINK_LOST' })
    await expect(source.send(1, 2)).rejects.toMatchObject({ code: 'LINK_LOST' })
  })
})

describe('what is written', () => {
  const bytes = (length: number, fill: number) => Buffer.alloc(length, fill)
  const lengths = (parts: Buffer[]) => inWholeRecords(parts).map(({ length }) => length)

  test('is the same bytes in the same order, small parts together and with the beginning of a large one', () => {
    const parts = [bytes(16, 1), bytes(520, 2), bytes(1_048_576, 3), bytes(10, 4), bytes(20_000, 5), bytes(16_384, 6), bytes(1, 7)]
    expect(Buffer.concat(inWholeRecords(parts)).equals(Buffer.concat(parts))).toBe(true)
    expect(lengths([bytes(16, 1), bytes(520, 2), bytes(1_048_576, 3)])).toEqual([16_384, 1_048_576 + 536 - 16_384])
    expect(lengths([bytes(16, 1), bytes(1, 2)])).toEqual([17])
    expect(lengths([bytes(16, 1), bytes(16_368, 2)])).toEqual([16_384])
    expect(lengths([bytes(16, 1)])).toEqual([16])
  })
})
