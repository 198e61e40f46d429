import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { memoryAuthorityStore, type AuthorityStore } from '../../src/agent-gateway/authority-store.ts'
import { makeCertificateAuthority, openCertificateAuthority } from '../../src/agent-gateway/certificate-authority.ts'
import { createAgentGateway, type AgentGateway, type MigrationAgents } from '../../src/agent-gateway/gateway.ts'
import type { ListenerLimits } from '../../src/agent-gateway/listener-limits.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import { dial, enrolled, helloOf, newKeyPair, type Identity } from './dialling-agent.ts'

const sealKey = sealKeyOf(Buffer.alloc(32, 9))
const waiting = { timeoutMs: 5000 }
let authorityStore: AuthorityStore
let gateway: AgentGateway
let agents: MigrationAgents
let logged: string[]

async function openGateway(limits: Partial<ListenerLimits> = {}): Promise<void> {
  gateway = await createAgentGateway({
    authorityStore,
    sealKey,
    log: (level, message, fields) => void logged.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
    limits,
  })
  agents = await gateway.openMigration('m-1')
}
/** Short limits only where a test waits for them: a busy machine may well need longer for a handshake. */
async function reopenGateway(limits: Partial<ListenerLimits>): Promise<void> {
  await gateway.close()
  await openGateway(limits)
}
beforeEach(async () => {
  logged = []
  authorityStore = memoryAuthorityStore()
  await openGateway()
})
afterEach(() => gateway.close())

const bootstrapOf = (migration = agents) => migration.bootstrap('SOURCE', gateway.addresses)

/** What keeps every other agent in business: the listener still serves. */
async function expectServing(): Promise<void> {
  const bootstrap = agents.bootstrap('DESTINATION', gateway.addresses)
  const keys = newKeyPair()
  await agents.reissue('DESTINATION')
  const fresh = { ...bootstrap, enrolmentToken: agents.bootstrap('DESTINATION', []).enrolmentToken }
  const agent = await dial(fresh, await enrolled(fresh, keys))
  agent.send({ hello: helloOf(fresh) })
  expect((await agents.agent('DESTINATION', waiting)).connected).toBe(true)
  agent.socket.destroy()
}

describe('a certificate', () => {
  test('of another migration is refused', async () => {
    const other = await gateway.openMigration('m-2')
    const stranger = await enrolled(bootstrapOf(other))
    const connection = await dial(bootstrapOf(), stranger)
    expect(await connection.next()).toMatchObject({ refused: { code: 'CERTIFICATE_REFUSED' } })
    await expectServing()
  })

  test('of nobody we know is refused, though it names the migration', async () => {
    const rogue = await makeCertificateAuthority('m-1')
    const keys = newKeyPair()
    const identity = { key: keys.privateKeyPem, cert: await rogue.issueLeaf('SOURCE', keys.publicKeyPem) }
    const connection = await dial(bootstrapOf(), identity)
    expect(await connection.next()).toMatchObject({ refused: { code: 'CERTIFICATE_REFUSED' } })
  })

  test('that has expired is refused, and enrolling again with the same key gives a new one', async () => {
    const keys = newKeyPair()
    const bootstrap = bootstrapOf()
    await enrolled(bootstrap, keys)
    const cert = await leafMadeAt(Date.now() - 40 * 86_400_000, keys.publicKeyPem)
    const connection = await dial(bootstrap, { key: keys.privateKeyPem, cert })
    expect(await connection.next()).toMatchObject({
      refused: { code: 'CERTIFICATE_REFUSED', message: expect.stringContaining('CERT_HAS_EXPIRED') as string },
    })
    const again = await dial(bootstrap, await enrolled(bootstrap, keys))
    again.send({ hello: helloOf(bootstrap) })
    expect((await agents.agent('SOURCE', waiting)).connected).toBe(true)
  })

  test('of our authority for a key that never enrolled is refused', async () => {
    const keys = newKeyPair()
    const connection = await dial(bootstrapOf(), { key: keys.privateKeyPem, cert: await leafMadeAt(Date.now(), keys.publicKeyPem) })
    expect(await connection.next()).toMatchObject({ refused: { code: 'CERTIFICATE_REFUSED' } })
  })

  async function leafMadeAt(time: number, publicKeyPem: string): Promise<string> {
    const sealed = await authorityStore.load('m-1')
    const stored = JSON.parse(sealKey.unseal(sealed!, 'migration-authority/m-1')) as { certificatePem: string; privateKeyPem: string }
    const authority = await openCertificateAuthority('m-1', stored, () => time)
    return authority.issueLeaf('SOURCE', publicKeyPem)
  }
})

describe('the listener', () => {
  test('shows each migration its own certificate, and a stranger none', async () => {
    const bootstrap = bootstrapOf()
    const { peer } = await dial(bootstrap).then(({ socket }) => ({ peer: socket.getPeerCertificate() }))
    expect(peer.subjectaltname).toBe('DNS:m-1.migration.portolan.internal')
    await expect(dial({ ...bootstrap, serverName: 'm-9.migration.portolan.internal' })).rejects.toThrow()
    await expect(dial(bootstrap, { servername: '' })).rejects.toThrow()
    await expect(dial(bootstrap, { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' })).rejects.toThrow()
    const other = await gateway.openMigration('m-2')
    await expect(dial(bootstrap, { ca: bootstrapOf(other).caCertificatePem })).rejects.toThrow()
  })

  test('never resumes a TLS session', async () => {
    const bootstrap = bootstrapOf()
    const first = await dial(bootstrap)
    first.send({ enrol: 'broken' })
    await first.next()
    const session = first.socket.getSession()
    const second = await dial(bootstrap, session ? { session } : {})
    expect(second.socket.isSessionReused()).toBe(false)
  })

  test('ends a connection that says nothing, or says it too slowly', async () => {
    const identity = await enrolled(bootstrapOf())
    await reopenGateway({ greetingMs: 200, handshakeMs: 2000 })
    const bootstrap = bootstrapOf()
    const silentTcp = connectTcp(gateway.addresses[0]!.port, '127.0.0.1').on('error', () => undefined)
    const silent = await dial(bootstrap)
    const slow = await dial(bootstrap, identity)
    slow.socket.write('{"hel')
    await Promise.all([silentTcp, silent.socket, slow.socket].map((socket) => once(socket.resume(), 'close')))
  })

  test('ends an agent that stops in the middle of a line, after its hello', async () => {
    await reopenGateway({ partialLineMs: 200 })
    const bootstrap = bootstrapOf()
    const slow = await dial(bootstrap, await enrolled(bootstrap))
    slow.send({ hello: helloOf(bootstrap) })
    await agents.agent('SOURCE', waiting)
    slow.socket.write('{"progress":')
    expect(await slow.next()).toMatchObject({ refused: { code: 'PROTOCOL' } })
  })

  test('takes an agent for lost that said that it lives and then falls silent, and no other', async () => {
    await reopenGateway({ silenceMs: 300 })
    const [source, destination] = await Promise.all(
      (['SOURCE', 'DESTINATION'] as const).map(async (role) => {
        const bootstrap = agents.bootstrap(role, gateway.addresses)
        const agent = await dial(bootstrap, await enrolled(bootstrap))
        agent.send({ hello: helloOf(bootstrap) })
        return { agent, session: await agents.agent(role, waiting) }
      }),
    )
    source!.agent.send({ alive: true })
    await once(source!.agent.socket.resume(), 'close')
    await expect.poll(() => source!.session.connected).toBe(false)
    expect(destination!.session.connected).toBe(true)
  })

  test('refuses a line beyond the limit, smaller before a certificate than after', async () => {
    const bootstrap = bootstrapOf()
    const stranger = await dial(bootstrap)
    stranger.socket.write('x'.repeat(17_000))
    expect(await stranger.next()).toMatchObject({ refused: { code: 'PROTOCOL' } })
    const agent = await dial(bootstrap, await enrolled(bootstrap))
    agent.send({ hello: helloOf(bootstrap) })
    await agents.agent('SOURCE', waiting)
    agent.socket.write(' '.repeat(1_048_577))
    expect(await agent.next()).toMatchObject({ refused: { code: 'PROTOCOL' } })
    await expectServing()
  })

  test('ends an agent that talks too much', async () => {
    await reopenGateway({ messagesPerSecond: 5 })
    const bootstrap = bootstrapOf()
    const agent = await dial(bootstrap, await enrolled(bootstrap))
    agent.send({ hello: helloOf(bootstrap) })
    for (let id = 0; id < 100; id += 1) agent.send({ response: { id: String(id), result: {} } })
    expect(await agent.next()).toMatchObject({
      refused: { code: 'PROTOCOL', message: expect.stringContaining('messages in a second') as string },
    })
  })

  test('makes room for an agent when strangers hold every place', async () => {
    await reopenGateway({ maxUngreeted: 8 })
    const strangers = await Promise.all(Array.from({ length: 12 }, () => dial(bootstrapOf())))
    await expectServing()
    for (const { socket } of strangers) socket.destroy()
  })

  test('refuses a hello that names another role, migration or protocol', async () => {
    const bootstrap = bootstrapOf()
    const identity = await enrolled(bootstrap)
    for (const changes of [{ role: 'DESTINATION' as const }, { migrationId: 'm-2' }, { protocol: { major: 2, minor: 0 } }]) {
      const agent = await dial(bootstrap, identity)
      agent.send({ hello: helloOf(bootstrap, changes) })
      expect(await agent.next()).toMatchObject({ refused: { code: 'PROTOCOL' } })
    }
  })

  test('refuses a result that the method does not promise, and keeps the agent', async () => {
    const bootstrap = bootstrapOf()
    const agent = await dial(bootstrap, await enrolled(bootstrap))
    agent.send({ hello: helloOf(bootstrap) })
    const session = await agents.agent('SOURCE', waiting)
    for (const result of [
      { root: '../../etc', blocks: 1 },
      { root: 'AB'.repeat(32), blocks: 1 },
      null,
      'x',
      { root: 'ab'.repeat(32), blocks: -1 },
    ]) {
      const answer = session.request('root', {}, waiting)
      const { request } = (await agent.next()) as { request: { id: string } }
      agent.send({ response: { id: request.id, result } })
      await expect(answer).rejects.toMatchObject({ code: 'PROTOCOL' })
    }
    expect(session.connected).toBe(true)
  })
})

describe('garbage', () => {
  test('on the bare port ends that connection only', async () => {
    for (const bytes of [randomBytes(5000), Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.from([0x16, 3, 1, 0xff, 0xff])]) {
      const socket = connectTcp(gateway.addresses[0]!.port, '127.0.0.1').on('error', () => undefined)
      socket.write(bytes)
      await once(socket.resume(), 'close')
    }
    await expectServing()
  })

  test('in place of messages is refused, whatever it is, and never logged', async () => {
    const bootstrap = bootstrapOf()
    const identity: Identity = await enrolled(bootstrap)
    const lines = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 300 }).map((bytes) => Buffer.from(bytes.filter((byte) => byte !== 10))),
      fc.json().map((json) => Buffer.from(json.replaceAll('\n', ' '))),
      fc.record({ hello: fc.object() }).map((message) => Buffer.from(JSON.stringify(message))),
      fc
        .constantFrom('{"__proto__":{"hello":{}}}', '{"enrol":{"token":[],"role":"X"}}', '[[[[', '"\\ud800"')
        .map((text) => Buffer.from(text)),
    )
    await fc.assert(
      fc.asyncProperty(lines, fc.boolean(), async (line, withCertificate) => {
        const agent = await dial(bootstrap, withCertificate ? identity : {})
        agent.socket.write(Buffer.concat([line, Buffer.from('\n')]))
        expect(await agent.next()).toMatchObject({ refused: { code: 'PROTOCOL' } })
        agent.socket.destroy()
      }),
      { numRuns: 60 },
    )
    await expectServing()
    expect(logged.join('\n')).not.toContain(bootstrap.enrolmentToken)
  })
})
