import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readClouds, workloadEndpoint } from '../../src/cli/demo-migration.ts'
import { artifacts } from '../../setup/artifacts.ts'
import { openScenario, type ScenarioSite } from '../support/scenario-site.ts'

/** Two real machines of one host, `web` depending on `db`, which is given last. At first no copy may begin, then one at once; none is cut over before the time that is set on the way. */
const document = `query Group($id: ID!) { migrationGroup(id: $id) { state members(first: 2) { nodes { name state refusal { message } migration { id phase state problem queuePosition startedAt endedAt exposedAt error { message } } } } } }`
const create = `mutation Create($input: CreateMigrationGroupInput!) { createMigrationGroup(input: $input) { ... on CreateMigrationGroupSuccess { migrationGroup { id } } ... on Error { message } } }`
const begin = `mutation Begin($input: StartMigrationGroupInput!) { startMigrationGroup(input: $input) { ... on StartMigrationGroupSuccess { migrationGroup { state } } ... on Error { message } } }`
const cutOver = `mutation CutOver($input: CutOverMigrationGroupInput!) { cutOverMigrationGroup(input: $input) { ... on CutOverMigrationGroupSuccess { migrationGroup { cutoverAt } } ... on Error { message } } }`
const limit = `mutation Limit($input: SetConcurrencyLimitsInput!) { setConcurrencyLimits(input: $input) { ... on SetConcurrencyLimitsSuccess { limits { limit } } ... on Error { message } } }`
const refresh = `mutation Refresh($input: RefreshTopologyInput!) { refreshTopology(input: $input) { ... on Error { message } } }`

interface Member {
  name: string
  state: string
  refusal: { message: string } | null
  migration: {
    id: string
    phase: string
    problem: string | null
    queuePosition: number | null
    exposedAt: string | null
    error: { message: string } | null
  } | null
}
interface Group {
  state: string
  members: { nodes: Member[] }
}

let scenario: ScenarioSite
let ended: Group
/** Every different standing of the members that was seen, in order. */
const seen: Record<string, string>[] = []
const problems = new Set<string>()
let whileNoneMayBegin: string | undefined
let cutoverAt: string | undefined
const fromNow = (ms: number) => new Date(Date.now() + ms).toISOString()

beforeAll(async () => {
  scenario = await openScenario({ from: 'east' })
  const web = await scenario.site.bootSource(scenario.source, artifacts().tinyImage)
  const api = scenario.api()
  const idempotencyKey = () => ({ idempotencyKey: randomUUID() })
  const before = await readClouds(api)
  const cloudId = (name: string) => before.find((cloud) => cloud.name === name)!.id
  await api.run(refresh, { input: { cloudId: cloudId(scenario.source.name), ...idempotencyKey() } })
  const allow = (...limits: { scope: string; limit: number | null }[]) => api.run(limit, { input: { limits, ...idempotencyKey() } })
  await allow({ scope: 'HOST', limit: 1 }, { scope: 'DISK', limit: 0 })
  const machines = (await readClouds(api)).flatMap((cloud) => cloud.virtualMachines.nodes)
  const member = (name: string, uniqueId: string, dependsOn: string[]) => ({
    name,
    dependsOn,
    sourceVirtualMachineId: machines.find((machine) => machine.uniqueId === uniqueId)!.id,
    destinationCloudId: cloudId(scenario.destination.name),
    permittedDowntimeMs: 300_000,
    healthCheck: { http: { port: 8080, path: '/health', timeoutMs: 180_000 } },
  })
  const members = [member('web', web.uniqueId, ['db']), member('db', scenario.vm.uniqueId, [])]
  const created = await api.run<{ createMigrationGroup: { migrationGroup: { id: string } } }>(create, {
    input: { name: 'wave', members, cutoverAt: fromNow(3_600_000), ...idempotencyKey() },
  })
  const { id } = created.createMigrationGroup.migrationGroup
  await api.run(begin, { input: { migrationGroupId: id, ...idempotencyKey() } })
  for (;;) {
    ended = (await api.run<{ migrationGroup: Group }>(document, { id })).migrationGroup
    const standing = Object.fromEntries(ended.members.nodes.map(({ name, state }) => [name, state]))
    if (JSON.stringify(standing) !== JSON.stringify(seen.at(-1))) seen.push(standing)
    for (const { name, migration } of ended.members.nodes) if (migration?.problem) problems.add(`${name}: ${migration.problem}`)
    if (!whileNoneMayBegin && ended.members.nodes.every(({ state, migration }) => state === 'WAITING_FOR_SLOT' && migration?.problem)) {
      whileNoneMayBegin = [...problems].join('\n')
      await allow({ scope: 'DISK', limit: null })
    }
    if (cutoverAt === undefined && ended.members.nodes.some(({ migration }) => migration?.phase === 'READY_TO_CUT_OVER')) {
      cutoverAt = fromNow(5_000)
      await api.run(cutOver, { input: { migrationGroupId: id, at: cutoverAt, ...idempotencyKey() } })
    }
    if (['COMPLETED', 'FAILED', 'CANCELLED'].includes(ended.state)) break
    await new Promise((later) => setTimeout(later, 100))
  }
})
afterAll(() => scenario?.close())

const nodeOf = (name: string) => ended.members.nodes.find((node) => node.name === name)!

test('groups, dependencies, scheduling: both are moved, not before the time that was set, the one that the other depends on first', () => {
  expect(ended, JSON.stringify({ ended, seen })).toMatchObject({ state: 'COMPLETED' })
  const exposedAtMs = (name: string) => Date.parse(nodeOf(name).migration!.exposedAt!)
  expect(exposedAtMs('db')).toBeLessThan(exposedAtMs('web'))
  expect(exposedAtMs('db')).toBeGreaterThan(Date.parse(cutoverAt!))
})

test('concurrency limits per host and per disk: while no disk may be read both wait and say so, then one by one', () => {
  for (const name of ['db', 'web'])
    expect(whileNoneMayBegin).toMatch(
      new RegExp(`${name}: It is number \\d in the queue: it waits for a slot of .*disk .* \\(0 at once\\)`),
    )
  expect([...problems].join('\n')).toMatch(/web: It is number 1 in the queue: it waits for a slot of host .* \(1 at once\)/)
  expect(seen).toContainEqual({ db: 'RUNNING', web: 'WAITING_FOR_SLOT' })
  const whileDbCutOver = seen.filter(({ db }) => db === 'RUNNING').map(({ web }) => web)
  expect(whileDbCutOver).toContain('RUNNING')
})

test('every acknowledged record of the first is at its destination', async () => {
  await scenario.records.stop()
  scenario.records.moveTo(workloadEndpoint(await scenario.migration(nodeOf('db').migration!.id), 8080))
  expect(scenario.records.acknowledged()).toBeGreaterThan(10)
  expect(await scenario.records.count()).toBe(scenario.records.acknowledged())
})
