import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { memoryAuthorityStore } from '../../src/agent-gateway/authority-store.ts'
import { createAgentGateway, type AgentGateway } from '../../src/agent-gateway/gateway.ts'
import { openControlLink, type ControlLink } from '../../src/agents/migration/control-link.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import { enrolled, helloOf, newKeyPair } from '../agent-gateway/dialling-agent.ts'
import { startFaultyLink, type FaultyLink } from './faulty-link.ts'

let gateway: AgentGateway
let link: FaultyLink
let control: ControlLink | undefined

beforeEach(async () => {
  gateway = await createAgentGateway({
    listen: [{ host: '127.0.0.1', port: 0 }],
    authorityStore: memoryAuthorityStore(),
    sealKey: sealKeyOf(Buffer.alloc(32, 9)),
    log: () => undefined,
  })
  link = await startFaultyLink(gateway.addresses[0]!.port)
})
afterEach(async () => {
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
