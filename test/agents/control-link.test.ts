import { setTimeout as sleep } from 'node:timers/promises'
import { X509Certificate } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { memoryAuthorityStore, type AuthorityStore } from '../../src/agent-gateway/authority-store.ts'
import { createAgentGateway, type AgentGateway, type MigrationAgents } from '../../src/agent-gateway/gateway.ts'
import { openControlLink, type ControlLink } from '../../src/agents/migration/control-link.ts'
import type { AgentIdentity } from '../../src/transfer/channel.ts'
import type { AgentBootstrap } from '../../src/transfer/control-protocol.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import { enrolled, helloOf, newKeyPair } from '../agent-gateway/dialling-agent.ts'
import { startFaultyLink, type FaultyLink } from './faulty-link.ts'

const dayMs = 86_400_000

let authorityStore: AuthorityStore
let gateway: AgentGateway
let link: FaultyLink
let control: ControlLink | undefined

async function startGateway(port: number): Promise<AgentGateway> {
  return createAgentGateway({
    listen: [{ host: '127.0.0.1', port }],
    authorityStore,
    sealKey: sealKeyOf(Buffer.alloc(32, 9)),
    log: () => undefined,
  })
}

beforeEach(async () => {
  authorityStore = memoryAuthorityStore()
  gateway = await startGateway(0)
  link = await startFaultyLink(gateway.addresses[0]!.port)
})
afterEach(async () => {
  vi.useRealTimers()
  control?.close()
  await link.close()
  await gateway.close()
})

test('an agent whose connection ends while it gathers its hello dials again', async () => {
  const agents = await gateway.openMigration('m-1')
  const bootstrap = agents.bootstrap('SOURCE', [{ host: '127.0.0.1', port: link.port }])
  const keys = newKeyPair()
  const { cert } = await enrolled(bootstrap, keys)
  const { migrationId, role, caCertificatePem } = bootstrap
  const identity = { migrationId, role, caCertificatePem, privateKeyPem: keys.privateKeyPem, certificatePem: cert }
  const hello = helloOf(bootstrap)
  let gathered = 0
  async function gatherHello() {
    if (++gathered > 1) return hello
    link.cut()
    // Too short on a busy machine, it would only test less.
    await sleep(200)
    link.restore()
    return hello
  }
  control = openControlLink(bootstrap, identity, gatherHello, {}, () => {})
  expect((await agents.agent('SOURCE', { timeoutMs: 20_000 })).hello).toEqual(hello)
  expect(gathered).toBe(2)
})

describe('an agent that enrolled ten days ago', () => {
  let agents: MigrationAgents
  let bootstrap: AgentBootstrap
  let identity: AgentIdentity
  let old: string

  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 10 * dayMs })
    agents = await gateway.openMigration('m-1')
    bootstrap = agents.bootstrap('SOURCE', [{ host: '127.0.0.1', port: link.port }])
    const keys = newKeyPair()
    old = (await enrolled(bootstrap, keys)).cert
    const { migrationId, role, caCertificatePem } = bootstrap
    identity = { migrationId, role, caCertificatePem, privateKeyPem: keys.privateKeyPem, certificatePem: old }
    vi.useRealTimers()
    // Whoever issues certificates goes by the clock that he began with.
    await gateway.close()
    gateway = await startGateway(link.targetPort)
    agents = await gateway.openMigration('m-1')
  })

  test('has its certificate renewed, once: before it dials, and while it is connected', async () => {
    const daysLeft = () => (Date.parse(new X509Certificate(identity.certificatePem).validTo) - Date.now()) / dayMs
    expect(daysLeft()).toBeLessThan(5)
    control = openControlLink(
      bootstrap,
      identity,
      async () => helloOf(bootstrap),
      {},
      () => {},
    )
    const session = await agents.agent('SOURCE', { timeoutMs: 20_000 })
    expect(daysLeft()).toBeGreaterThan(13)

    const renewed = identity.certificatePem
    link.cut()
    await expect.poll(() => session.connected).toBe(false)
    link.restore()
    await agents.agent('SOURCE', { timeoutMs: 20_000 })
    expect(identity.certificatePem).toBe(renewed)

    identity.certificatePem = old
    await expect.poll(daysLeft, { timeout: 20_000 }).toBeGreaterThan(13)
  })

  test('dials with the certificate that it has where it gets no other', async () => {
    const logged: string[] = []
    const log = (message: string) => void logged.push(message)
    control = openControlLink({ ...bootstrap, enrolmentToken: 'another' }, identity, async () => helloOf(bootstrap), {}, log)
    await agents.agent('SOURCE', { timeoutMs: 20_000 })
    expect(identity.certificatePem).toBe(old)
    expect(logged).toEqual([expect.stringMatching(/^certificate: /)])
  })
})
