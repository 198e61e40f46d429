import { randomUUID } from 'node:crypto'
import { mkdtemp, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { startControlPlane, type ControlPlaneProcess } from '../../src/cli/control-plane-process.ts'
import { connectCloud, readClouds } from '../../src/cli/demo-migration.ts'
import { demoPlugins, type DemoCloud } from '../../src/cli/demo-site.ts'
import { createGraphqlClient, type GraphqlClient } from '../../src/cli/graphql-client.ts'
import { recordKey } from '../../src/domain/migration-record.ts'
import { killControlPlane } from '../support/kill.ts'
import { openScenario, type ScenarioSite } from '../support/scenario-site.ts'

/**
 * In mid-switchover the control plane dies with its database, nothing of which is used again, and the source's host with it (its QEMU is killed). Another one, which knows nothing, connects the clouds and
 * reads the records alone.
 */
const verdictsDocument = `query Verdicts($cloudId: ID!) { migrationVerdicts(cloudId: $cloudId) { migrationId uniqueId verdict row message safeActions migration { id } source { id } destination { id } sourceCloud { name } evidence { kind found message } reconciliation { state problem done } attestations { statement } } }`
const reconcileDocument = `mutation Reconcile($input: ReconcileMigrationsInput!) { reconcileMigrations(input: $input) { ... on ReconcileMigrationsSuccess { reconciliations { id state } } ... on Error { code message } } }`
const attestDocument = `mutation Attest($input: AttestSourceDeadInput!) { attestSourceDead(input: $input) { ... on AttestSourceDeadSuccess { attestation { id } } ... on Error { code message } } }`

interface Verdict {
  migrationId: string
  uniqueId: string
  verdict: string
  row: string
  safeActions: string[]
  migration: null
  sourceCloud: { name: string } | null
  evidence: { kind: string; found: string; message: string }[]
  reconciliation: { state: string; problem: string | null; done: string[] } | null
  attestations: { statement: string }[]
}

let scenario: ScenarioSite | undefined
let second: ControlPlaneProcess | undefined
afterEach(async () => {
  await second?.stop()
  await scenario?.close()
  second = undefined
  scenario = undefined
})

describe('the control plane dies in mid-switchover, and its database is lost', () => {
  test.each([
    ['the source host dies with it', killSource],
    ['the source is left suspended and frozen', null],
  ] as const)(
    'a failed migration stopped a healthy VM, before the commit, and %s: NOT_MIGRATED, the machine goes on at the source with every acknowledged record',
    async (_, fault) => {
      const { site, api, cloudId } = await faultInSwitchover(fault)
      await connectCloud(api, site.source)
      const before = await verdictOf(api, cloudId)
      expect(before).toMatchObject({ verdict: 'NOT_MIGRATED', row: 'NO_COMPLETED_EVENT', migration: null, sourceCloud: { name: 'east' } })
      expect(before.safeActions).toEqual(['ABANDON', 'STOP_DESTINATION'])
      expect(before.evidence.find(({ kind }) => kind === 'SOURCE_FENCE')).toMatchObject({ found: 'YES' })

      await reconcile(api, cloudId)
      expect(await reconciled(api, cloudId, 'DONE')).toMatchObject({ verdict: 'NOT_MIGRATED', reconciliation: { problem: null } })
      if (!fault) expect((await verdictOf(api, cloudId)).reconciliation?.done.at(-1)).toMatch(/guest was removed/)
      expect(await powers(site)).toEqual({ source: ['RUNNING'], destination: ['STOPPED'] })
      await expectRecordsAt(site, site.source, site.vm.vmId)
    },
  )

  test("a good migration judged failed, running target removed: after the commit, its site gone, it is MIGRATED, live on an administrator's word, and the source that returns is fenced", async () => {
    const { site, api, cloudId, migrationId } = await faultInSwitchover(killSource, ['HEALTH_CHECK'])
    await commitAsTheLastDeedOfTheDead(site, migrationId)
    expect(await verdictOf(api, cloudId)).toMatchObject({
      verdict: 'MIGRATED',
      row: 'COMPLETED_EVENT',
      sourceCloud: null,
      safeActions: ['WAIT_FOR_SOURCE', 'ATTEST_SOURCE'],
    })
    await reconcile(api, cloudId)
    expect((await reconciled(api, cloudId, 'WAITING')).reconciliation?.problem).toMatch(/attestSourceDead/)

    const statement = 'The host lost its power, and its switch is off.'
    const input = { idempotencyKey: randomUUID(), uniqueId: site.vm.uniqueId, cloudId, statement }
    expect(await api.run(attestDocument, { input })).toMatchObject({ attestSourceDead: { attestation: {} } })
    expect(await reconciled(api, cloudId, 'DONE')).toMatchObject({ verdict: 'MIGRATED', row: 'COMPLETED', attestations: [{ statement }] })
    const copy = await copyAtDestination(site)
    expect(copy.power).toBe('RUNNING')
    await expectRecordsAt(site, site.destination, copy.id)

    await connectCloud(api, site.source)
    await until(async () => (await site.source.connection.fencing!.confirm({ vmId: site.vm.vmId })).fenced)
    await expect(site.source.connection.virtualMachines.start({ operationId: randomUUID(), vmId: site.vm.vmId })).rejects.toThrow()
    expect((await powers(site)).source).toEqual(['STOPPED'])
  })
})

/** A control plane that knows nothing but the destination. */
async function faultInSwitchover(
  fault: ((site: ScenarioSite) => Promise<void>) | null,
  inSwitchover = ['FIX_UP_GUEST', 'BOOT_DESTINATION', 'HEALTH_CHECK'],
): Promise<{ site: ScenarioSite; api: GraphqlClient; cloudId: string; migrationId: string }> {
  const site = await openScenario({ from: 'east' })
  scenario = site
  const { migration } = await site.start()
  const present = await site.until(
    migration!.id,
    ({ phase, state }) => inSwitchover.includes(phase) || (state !== 'RUNNING' && state !== 'PENDING'),
    540_000,
  )
  expect(present.state).toBe('RUNNING')
  await killControlPlane(site.controlPlane())
  await fault?.(site)

  const configuration = { api: { port: 0 }, agents: { listen: [{ host: '0.0.0.0', port: 0 }] }, plugins: demoPlugins }
  second = await startControlPlane(await mkdtemp(join(site.directory, 'another-')), configuration)
  const api = createGraphqlClient(second.url, second.token)
  await connectCloud(api, site.destination)
  const [cloud] = await readClouds(api)
  const [record] = await site.destination.connection.records.list({ keyPrefix: 'migration.' })
  return { site, api, cloudId: cloud!.id, migrationId: String(record!.content['migrationId']) }
}

/** Power loss of the source's host: everything that runs its machine is gone at once. */
async function killSource(site: ScenarioSite): Promise<void> {
  const directory = String(site.source.options['stateDirectory'])
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const command = await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '')
    if (command.split('\0')[0]?.includes('qemu') && command.includes(directory)) process.kill(Number(entry), 'SIGKILL')
  }
  await until(async () => (await site.source.connection.virtualMachines.describe({ vmId: site.vm.vmId })).power === 'STOPPED')
}

/** As FENCE_SOURCE and COMMIT would have left it, had the fault come a moment later. */
async function commitAsTheLastDeedOfTheDead(site: ScenarioSite, migrationId: string): Promise<void> {
  const { id: vmId } = await copyAtDestination(site)
  await site.destination.connection.records.put({
    operationId: randomUUID(),
    record: {
      key: recordKey({ migrationId, attempt: 1, kind: 'outcome' }),
      writtenAt: new Date().toISOString(),
      content: { migrationId, attempt: 1, decision: 'COMMITTED', uniqueId: site.vm.uniqueId, vmId },
    },
  })
}

async function copyAtDestination(site: ScenarioSite) {
  const { virtualMachines } = await site.destination.connection.discoverTopology({})
  return virtualMachines.find(({ uniqueId }) => uniqueId === site.vm.uniqueId)!
}

async function powers(site: ScenarioSite) {
  const of = async ({ connection }: DemoCloud) =>
    (await connection.discoverTopology({})).virtualMachines
      .filter(({ uniqueId }) => uniqueId === site.vm.uniqueId)
      .map(({ power }) => power)
  return { source: await of(site.source), destination: await of(site.destination) }
}

async function expectRecordsAt(site: ScenarioSite, cloud: DemoCloud, vmId: string): Promise<void> {
  const { fromControlPlane } = await cloud.connection.network.reachability({ vmId, guestPort: 8080 })
  await until(() =>
    fetch(`http://${fromControlPlane!.host}:${fromControlPlane!.port}/health`).then(
      ({ ok }) => ok,
      () => false,
    ),
  )
  site.records.moveTo(fromControlPlane!)
  await site.records.stop()
  expect(site.records.acknowledged()).toBeGreaterThan(10)
  expect(await site.records.count()).toBe(site.records.acknowledged())
}

async function verdictOf(api: GraphqlClient, cloudId: string): Promise<Verdict> {
  const { migrationVerdicts } = await api.run<{ migrationVerdicts: Verdict[] }>(verdictsDocument, { cloudId })
  expect(migrationVerdicts).toHaveLength(1)
  return migrationVerdicts[0]!
}

async function reconcile(api: GraphqlClient, cloudId: string): Promise<void> {
  const send = (idempotencyKey: string) => api.run(reconcileDocument, { input: { idempotencyKey, cloudId } })
  const [key, other] = [randomUUID(), randomUUID()]
  const first = await send(key)
  expect(first).toMatchObject({ reconcileMigrations: { reconciliations: [{ id: expect.any(String) as string }] } })
  await Promise.all([send(key), send(other)])
}

async function reconciled(api: GraphqlClient, cloudId: string, state: string): Promise<Verdict> {
  await until(async () => {
    const { reconciliation } = await verdictOf(api, cloudId)
    if (reconciliation?.state === 'FAILED') throw new Error(reconciliation.problem ?? '')
    return reconciliation?.state === state
  })
  return verdictOf(api, cloudId)
}

async function until(holds: () => Promise<boolean>, timeoutMs = 240_000): Promise<void> {
  for (const deadline = performance.now() + timeoutMs; !(await holds());) {
    if (performance.now() > deadline) throw new Error(`It did not come to that within ${timeoutMs} ms: ${holds.toString()}`)
    await new Promise((later) => setTimeout(later, 500))
  }
}
