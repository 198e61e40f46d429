import { randomUUID } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { workloadEndpoint } from '../../src/cli/demo-migration.ts'
import { hasEnded, openScenario, type ScenarioSite } from '../support/scenario-site.ts'

/**
 * One real migration fails in its last step, is retried, tested, cut over, and rolled back; its copy is discarded in the end. The titles are what users of other programs complain
 * about.
 */
let scenario: ScenarioSite
let id: string
/** Asked just before the commit, after everything else has been done: it refuses the first time. */
let server: Server
let asked = 0

interface Kept {
  attempt: number
  copyKept: boolean
  problem: string | null
  tests: { state: string; problem: string | null; console: string | null; frozenMs: number | null; notTried: string[] }[]
  rounds: { nodes: { round: number; mode: string; changedBytes: number | string; bytesSent: number | string }[] }
}
const read = async (): Promise<Kept> =>
  (
    await scenario.api().run<{ migration: Kept }>(
      `query Kept($id: ID!) { migration(id: $id) { attempt copyKept problem tests { state problem console frozenMs notTried }
        rounds(first: 100) { nodes { round mode changedBytes bytesSent } } } }`,
      { id },
    )
  ).migration

async function ask(mutation: string): Promise<void> {
  const type = `${mutation[0]!.toUpperCase()}${mutation.slice(1)}Input`
  const answer = await scenario
    .api()
    .run<Record<string, { code?: string; message?: string }>>(
      `mutation Ask($input: ${type}!) { ${mutation}(input: $input) { ... on Error { code message } } }`,
      { input: { idempotencyKey: randomUUID(), migrationId: id } },
    )
  expect(answer[mutation]).toEqual({})
}

const machines = async () => (await scenario.destination.connection.discoverTopology({})).virtualMachines
const sourcePower = async () => (await scenario.source.connection.virtualMachines.describe({ vmId: scenario.vm.vmId })).power
const ready = () => scenario.until(id, (present) => present.phase === 'READY_TO_CUT_OVER' || hasEnded(present))

beforeAll(async () => {
  server = createServer((request, response) => {
    request.resume().once('end', () => response.writeHead(asked++ === 0 ? 503 : 200).end())
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  scenario = await openScenario({ from: 'east', webhooks: { allow: ['127.0.0.1'] } })
  await scenario
    .api()
    .run(`mutation Secret($input: SetWebhookSecretInput!) { setWebhookSecret(input: $input) { ... on Error { message } } }`, {
      input: { idempotencyKey: randomUUID(), name: 'scenario', secret: 'the key of the scenario' },
    })
  const webhook = { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, secretName: 'scenario' }
  const { migration } = await scenario.start({
    cutoverPolicy: 'MANUAL',
    hooks: [{ name: 'last', phase: 'COMMIT', when: 'BEFORE', webhook }],
  })
  id = migration!.id
  expect(await ready()).toMatchObject({ state: 'RUNNING' })
})
afterAll(async () => {
  await scenario?.close()
  await new Promise((closed) => server.close(closed))
})

let copiedBytes: number

test('failed in its last step, the migration leads back to the running source, and the copy is kept, powered off', async () => {
  copiedBytes = (await read()).rounds.nodes.reduce((sum, { changedBytes }) => sum + Number(changedBytes), 0)
  await ask('cutOverMigration')
  expect(await scenario.until(id, hasEnded)).toMatchObject({ state: 'FAILED' })
  expect(asked).toBe(1)
  expect((await machines()).map(({ power }) => power)).toEqual(['STOPPED'])
  expect(await sourcePower()).toBe('RUNNING')
  expect(await read()).toMatchObject({ copyKept: true })
})

test('a failed last step forced a full recopy: a retry sends only what differs', async () => {
  await ask('retryMigration')
  expect(await ready()).toMatchObject({ state: 'RUNNING', error: null })
  const { attempt, rounds } = await read()
  expect(attempt).toBe(2)
  const [first] = rounds.nodes
  expect(first).toMatchObject({ mode: 'FULL' })
  // What the busy guest wrote in between is sent, of course.
  expect(Number(first!.changedBytes)).toBeLessThan(copiedBytes / 2)
})

test('boot-test the target without stopping the source', async () => {
  await ask('testMigration')
  await expect.poll(async () => (await read()).tests[0]?.state, { timeout: 300_000, interval: 1_000 }).toMatch(/PASSED|FAILED/)
  const [tested] = (await read()).tests
  expect(tested).toMatchObject({ state: 'PASSED', problem: null })
  expect(tested!.console).toMatch(/workload: port 8080/)
  expect(tested!.notTried).toEqual([expect.stringMatching(/guest fix-up/)])
  expect(await machines()).toHaveLength(1)
  expect(await sourcePower()).toBe('RUNNING')
  const before = scenario.records.acknowledged()
  await expect.poll(() => scenario.records.acknowledged(), { timeout: 60_000 }).toBeGreaterThan(before)
})

test('operator-chosen cutover while syncing goes on: it comes when asked for, with every acknowledged record', async () => {
  const roundsBefore = (await read()).rounds.nodes.length
  const before = scenario.records.acknowledged()
  await expect.poll(async () => (await read()).rounds.nodes.length, { timeout: 120_000, interval: 500 }).toBeGreaterThan(roundsBefore + 1)
  expect(scenario.records.acknowledged()).toBeGreaterThan(before)
  expect(await scenario.migration(id)).toMatchObject({ state: 'RUNNING', phase: 'READY_TO_CUT_OVER' })
  await ask('cutOverMigration')
  const ended = await scenario.until(id, hasEnded)
  expect(ended).toMatchObject({ state: 'COMPLETED', verified: true })
  scenario.records.moveTo(workloadEndpoint(ended, 8080))
  await scenario.records.stop()
  expect(await scenario.records.count()).toBe(scenario.records.acknowledged())
  expect(await sourcePower()).toBe('STOPPED')
})

test('the source resumed after the destination had run: nobody can start the source that was left', async () => {
  const { virtualMachines } = scenario.source.connection
  await expect(virtualMachines.start({ operationId: randomUUID(), vmId: scenario.vm.vmId })).rejects.toMatchObject({ code: 'CONFLICT' })
  expect(await sourcePower()).toBe('STOPPED')
})

test('a rollback stops the destination first, and then starts the source; the copy goes when it is discarded', async () => {
  await ask('rollbackMigration')
  expect(await scenario.until(id, ({ state }) => state === 'ROLLED_BACK')).toMatchObject({ error: null })
  expect(await sourcePower()).toBe('RUNNING')
  expect((await machines()).map(({ power }) => power)).toEqual(['STOPPED'])
  await ask('discardMigration')
  await scenario.until(id, ({ state }) => state === 'ROLLED_BACK')
  expect(await machines()).toEqual([])
})
