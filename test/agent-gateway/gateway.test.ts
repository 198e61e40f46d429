import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { AgentError } from '../../src/agent-gateway/agent-error.ts'
import type { AgentSession } from '../../src/agent-gateway/agent-session.ts'
import { memoryAuthorityStore, type AuthorityStore } from '../../src/agent-gateway/authority-store.ts'
import { createAgentGateway, type AgentGateway, type MigrationAgents } from '../../src/agent-gateway/gateway.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import type { AgentBootstrap, AgentRole } from '../../src/transfer/control-protocol.ts'
import { dial, enrol, enrolled, helloOf, newKeyPair, type Dialled, type Identity } from './dialling-agent.ts'

const sealKey = sealKeyOf(Buffer.alloc(32, 9))
const waiting = { timeoutMs: 5000 }
let authorityStore: AuthorityStore
let gateway: AgentGateway
let agents: MigrationAgents
const dialled: Dialled[] = []

async function startGateway(port = 0): Promise<AgentGateway> {
  return createAgentGateway({ listen: [{ host: '127.0.0.1', port }], authorityStore, sealKey, log: () => undefined })
}
function bootstrapOf(role: AgentRole): AgentBootstrap {
  return agents.bootstrap(role, gateway.addresses)
}
async function dialIn(bootstrap: AgentBootstrap, identity: Identity, hello = helloOf(bootstrap)): Promise<Dialled> {
  const connection = await dial(bootstrap, identity)
  dialled.push(connection)
  connection.send({ hello })
  return connection
}
const endOf = (session: AgentSession) => new Promise<AgentError>((ended) => session.onClosed(ended))

beforeEach(async () => {
  authorityStore = memoryAuthorityStore()
  gateway = await startGateway()
  agents = await gateway.openMigration('m-1')
})
afterEach(async () => {
  for (const { socket } of dialled.splice(0)) socket.destroy()
  await gateway.close()
})

describe('an agent', () => {
  test('enrols, dials in with its certificate, and answers requests', async () => {
    const bootstrap = bootstrapOf('SOURCE')
    const agent = await dialIn(bootstrap, await enrolled(bootstrap))
    const session = await agents.agent('SOURCE', waiting)
    expect(session.hello.disks[0]!.name).toBe('vda')
    const answer = session.request('root', {}, waiting)
    const { request } = (await agent.next()) as { request: { id: string; method: string } }
    expect(request.method).toBe('root')
    agent.send({ response: { id: request.id, result: { root: 'ab'.repeat(32), blocks: 32_768 } } })
    expect(await answer).toEqual({ root: 'ab'.repeat(32), blocks: 32_768 })
  })

  test('reports progress to whoever listens, over reconnects', async () => {
    const bootstrap = bootstrapOf('SOURCE')
    const identity = await enrolled(bootstrap)
    const hello = helloOf(bootstrap)
    const rounds: number[] = []
    const second = Promise.withResolvers<void>()
    agents.onProgress('SOURCE', ({ round }) => {
      rounds.push(round)
      if (round === 2) second.resolve()
    })
    const progress = (round: number) => ({
      progress: {
        round,
        scannedBytes: 0,
        totalBytes: 10,
        changedBytes: 0,
        bytesSent: 0,
        verifiedBytes: 0,
        rateBytesPerSecond: 0.5,
        etaMs: null,
        bottleneck: 'LINK',
      },
    })
    const before = await dialIn(bootstrap, identity, hello)
    before.send(progress(1))
    await agents.agent('SOURCE', waiting)
    await expect.poll(() => rounds).toEqual([1])
    const after = await dialIn(bootstrap, identity, hello)
    after.send(progress(2))
    await second.promise
    expect(rounds).toEqual([1, 2])
  })

  test('gets a request again, under the same id, when its link dropped before the answer', async () => {
    const bootstrap = bootstrapOf('DESTINATION')
    const identity = await enrolled(bootstrap)
    const hello = helloOf(bootstrap)
    const before = await dialIn(bootstrap, identity, hello)
    const session = await agents.agent('DESTINATION', waiting)
    const answer = session.request('receive.start', { disk: 'portolan-disk-0', empty: true }, waiting)
    const first = (await before.next()) as { request: { id: string } }
    before.socket.destroy()
    const after = await dialIn(bootstrap, identity, hello)
    const again = (await after.next()) as { request: { id: string } }
    expect(again).toEqual(first)
    after.send({ response: { id: again.request.id, result: {} } })
    expect(await answer).toEqual({})
    expect(await agents.agent('DESTINATION', waiting)).toBe(session)
  })

  test('hears what it was asked while its link was down in the order in which it was asked, and before anything later', async () => {
    const bootstrap = bootstrapOf('SOURCE')
    const identity = await enrolled(bootstrap)
    const hello = helloOf(bootstrap)
    const first = await dialIn(bootstrap, identity, hello)
    const session = await agents.agent('SOURCE', waiting)
    first.socket.destroy()
    await expect.poll(() => session.connected).toBe(false)
    const ask: Promise<unknown>[] = [
      session.request('round.stop', {}, waiting),
      session.request('round.run', { round: 2, mode: 'CHANGED' }, waiting),
    ]
    const again = await dialIn(bootstrap, identity, hello)
    await expect.poll(() => session.connected).toBe(true)
    ask.push(session.request('root', {}, waiting))
    for (const method of ['round.stop', 'round.run', 'root']) expect(await again.next()).toMatchObject({ request: { method } })
    void Promise.allSettled(ask)
  })

  test('that was started again ends the session of the process before, and its requests', async () => {
    const bootstrap = bootstrapOf('SOURCE')
    const identity = await enrolled(bootstrap)
    await dialIn(bootstrap, identity)
    const session = await agents.agent('SOURCE', waiting)
    const answer = session.request('round.run', { round: 1, mode: 'FULL' }, waiting)
    let heardLater = false
    session.onClosed(() => (heardLater = true))()
    await dialIn(bootstrap, identity)
    await expect(answer).rejects.toMatchObject({ code: 'AGENT_RESTARTED', retryable: true })
    expect((await endOf(session)).code).toBe('AGENT_RESTARTED')
    expect(heardLater).toBe(false)
    expect(await agents.agent('SOURCE', waiting)).not.toBe(session)
  })

  test("passes on its own errors, with the agent's code", async () => {
    const bootstrap = bootstrapOf('SOURCE')
    const agent = await dialIn(bootstrap, await enrolled(bootstrap))
    const session = await agents.agent('SOURCE', waiting)
    const answer = session.request('freeze', { freezeId: 'f', leaseMs: 1000 }, waiting)
    const { request } = (await agent.next()) as { request: { id: string } }
    agent.send({ response: { id: request.id, error: { code: 'BUSY', message: 'another freeze is held', retryable: true } } })
    await expect(answer).rejects.toMatchObject({ code: 'AGENT_FAILED', agentCode: 'BUSY', retryable: true })
  })

  test('is told to exit, and its going is the answer', async () => {
    const bootstrap = bootstrapOf('SOURCE')
    const agent = await dialIn(bootstrap, await enrolled(bootstrap))
    const session = await agents.agent('SOURCE', waiting)
    const answer = session.request('exit', {}, waiting)
    await agent.next()
    agent.socket.destroy()
    expect(await answer).toEqual({})
  })

  test('comes back, certificate and all, after a restart of the control plane', async () => {
    const bootstrap = bootstrapOf('SOURCE')
    const identity = await enrolled(bootstrap)
    const { port } = gateway.addresses[0]!
    await gateway.close()
    gateway = await startGateway(port)
    agents = await gateway.openMigration('m-1')
    expect(bootstrapOf('SOURCE')).toEqual(bootstrap)
    await dialIn(bootstrap, identity)
    expect((await agents.agent('SOURCE', waiting)).connected).toBe(true)
  })
})

describe('waiting for an agent', () => {
  test('ends in time, or when cancelled, or with the migration', async () => {
    await expect(agents.agent('SOURCE', { timeoutMs: 5 })).rejects.toMatchObject({ code: 'AGENT_UNREACHABLE', retryable: true })
    await expect(agents.agent('SOURCE', { timeoutMs: 5000, signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELLED' })
    const cancel = new AbortController()
    const cancelled = agents.agent('SOURCE', { timeoutMs: 5000, signal: cancel.signal })
    cancel.abort()
    await expect(cancelled).rejects.toMatchObject({ code: 'CANCELLED' })
    const overtaken = agents.agent('SOURCE', waiting)
    await Promise.all([expect(overtaken).rejects.toMatchObject({ code: 'MIGRATION_CLOSED' }), gateway.closeMigration('m-1')])
  })

  test('for an answer ends in time, or when cancelled', async () => {
    const bootstrap = bootstrapOf('SOURCE')
    await dialIn(bootstrap, await enrolled(bootstrap))
    const session = await agents.agent('SOURCE', waiting)
    await expect(session.request('root', {}, { timeoutMs: 5 })).rejects.toMatchObject({ code: 'TIMED_OUT', retryable: true })
    const signal = AbortSignal.abort()
    await expect(session.request('root', {}, { timeoutMs: 5000, signal })).rejects.toMatchObject({ code: 'CANCELLED' })
  })
})

describe('enrolment', () => {
  test('works again for the same key, also at the same moment, and for no other', async () => {
    const bootstrap = bootstrapOf('SOURCE')
    const keys = newKeyPair()
    const first = await Promise.all([enrol(bootstrap, keys), enrol(bootstrap, newKeyPair())])
    const refusals = first.filter((answer) => answer['refused']?.code === 'ENROLMENT_REFUSED')
    expect(refusals).toHaveLength(1)
  })

  test('refuses a token reused with another key, also after a restart', async () => {
    const bootstrap = bootstrapOf('SOURCE')
    const keys = newKeyPair()
    await enrolled(bootstrap, keys)
    const { port } = gateway.addresses[0]!
    await gateway.close()
    gateway = await startGateway(port)
    agents = await gateway.openMigration('m-1')
    expect(await enrol(bootstrap, newKeyPair())).toMatchObject({ refused: { code: 'ENROLMENT_REFUSED' } })
    expect(await enrol(bootstrap, keys)).toHaveProperty('certificate')
  })

  test("refuses the other role's token and a made-up one", async () => {
    const bootstrap = bootstrapOf('SOURCE')
    const other = bootstrapOf('DESTINATION').enrolmentToken
    for (const enrolmentToken of [other, 'x', 'x'.repeat(43)]) {
      expect(await enrol({ ...bootstrap, enrolmentToken }, newKeyPair())).toMatchObject({ refused: { code: 'ENROLMENT_REFUSED' } })
    }
  })

  test('refuses what is not a P-256 or Ed25519 public key, and a private key above all', async () => {
    const bootstrap = bootstrapOf('SOURCE')
    const { privateKeyPem } = newKeyPair()
    for (const publicKeyPem of ['', 'hello', privateKeyPem]) {
      const answer = await enrol(bootstrap, { publicKeyPem, privateKeyPem })
      expect(answer).toMatchObject({ refused: { code: 'ENROLMENT_REFUSED' } })
    }
  })

  test('is open for a new key after a reissue, which shuts the old one out', async () => {
    const before = bootstrapOf('SOURCE')
    expect(agents.hasEnrolled('SOURCE')).toBe(false)
    const identity = await enrolled(before)
    expect(agents.hasEnrolled('SOURCE')).toBe(true)
    await dialIn(before, identity)
    const session = await agents.agent('SOURCE', waiting)
    await agents.reissue('SOURCE')
    expect(agents.hasEnrolled('SOURCE')).toBe(false)
    expect((await endOf(session)).code).toBe('AGENT_RESTARTED')
    const shutOut = await dial(before, identity)
    expect(await shutOut.next()).toMatchObject({ refused: { code: 'CERTIFICATE_REFUSED' } })
    const after = bootstrapOf('SOURCE')
    expect(await enrol(before, newKeyPair())).toMatchObject({ refused: { code: 'ENROLMENT_REFUSED' } })
    await dialIn(after, await enrolled(after))
    expect((await agents.agent('SOURCE', waiting)).connected).toBe(true)
  })
})

describe('a migration', () => {
  test('is opened once, however often it is asked for', async () => {
    expect(await gateway.openMigration('m-1')).toBe(agents)
  })

  test('keeps nothing readable in the store, and nothing at all after its end', async () => {
    const sealed = await authorityStore.load('m-1')
    expect(sealed).toMatch(/^sealed:1:/)
    const bootstrap = bootstrapOf('SOURCE')
    const identity = await enrolled(bootstrap)
    await gateway.closeMigration('m-1')
    await gateway.closeMigration('m-1')
    expect(await authorityStore.load('m-1')).toBeNull()
    await expect(dial(bootstrap, identity)).rejects.toThrow()
  })

  test('refuses an id that could not be a host name', async () => {
    for (const id of ['', 'A', 'a.b', '../..', 'x'.repeat(64), '-a', '; rm -rf'])
      await expect(gateway.openMigration(id)).rejects.toThrow(TypeError)
  })
})
