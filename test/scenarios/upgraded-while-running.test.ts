import { join } from 'node:path'
import { randomUUID } from 'node:crypto'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { readClouds, workloadEndpoint } from '../../src/cli/demo-migration.ts'
import { newestVersion, phaseLists } from '../../src/workflows/phase-lists.ts'
import { killControlPlane } from '../support/kill.ts'
import { hasEnded, openScenario, type ScenarioSite } from '../support/scenario-site.ts'

/**
 * An upgrade of the program in the middle of a migration: the older program knows phase list 1 only, and is killed while it copies. The present one goes on with the same data, engine
 * and agents, knows another list, and must not put the running migration onto it.
 */
const oldProgram = `--import=${pathToFileURL(join(import.meta.dirname, '../support/old-program/register.ts')).href}`

let scenario: ScenarioSite
beforeAll(async () => {
  vi.stubEnv('NODE_OPTIONS', oldProgram)
  scenario = await openScenario()
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await scenario?.close()
})

async function phasesEntered(id: string): Promise<string[]> {
  const document = `query Phases($id: ID!) { migration(id: $id) { events(first: 100, filter: { kinds: [PHASE_STARTED] }) { nodes { phase } } } }`
  const { migration } = await scenario.api().run<{ migration: { events: { nodes: { phase: string }[] } } }>(document, { id })
  return migration.events.nodes.map(({ phase }) => phase)
}

/** The VM goes back where it came from, where nothing of it is left by then. */
async function startBack(): Promise<string> {
  await scenario.source.connection.virtualMachines.delete!({ operationId: randomUUID(), vmId: scenario.vm.vmId })
  const api = scenario.api()
  const refresh = `mutation Refresh($input: RefreshTopologyInput!) { refreshTopology(input: $input) { ... on Error { message } } }`
  for (const { id } of await readClouds(api)) await api.run(refresh, { input: { idempotencyKey: randomUUID(), cloudId: id } })
  const clouds = await readClouds(api)
  const cloud = (name: string) => clouds.find((candidate) => candidate.name === name)!
  const moved = cloud(scenario.destination.name).virtualMachines.nodes.find(({ uniqueId }) => uniqueId === scenario.vm.uniqueId)!
  const { migration, ...refusal } = await scenario.start({
    sourceVirtualMachineId: moved.id,
    destinationCloudId: cloud(scenario.source.name).id,
    cutoverPolicy: 'MANUAL',
  })
  if (!migration) throw new Error(JSON.stringify(refusal))
  return migration.id
}

/** Lets it begin, cancels it, and waits for its end: which list it is on shows before it has cost much. */
async function phasesUntilCancelled(id: string): Promise<string[]> {
  await scenario.until(id, ({ phase }) => phase === 'INSTANTIATE_DESTINATION')
  const cancel = `mutation Cancel($input: CancelMigrationInput!) { cancelMigration(input: $input) { ... on Error { message } } }`
  await scenario.api().run(cancel, { input: { idempotencyKey: randomUUID(), migrationId: id } })
  await scenario.until(id, hasEnded)
  return phasesEntered(id)
}

test('a migration finishes on the phase list that it began with, and the next one uses the newest', { timeout: 900_000 }, async () => {
  const { migration } = await scenario.start()
  const { id } = migration!
  await scenario.until(id, ({ phase, currentRound }) => phase === 'SYNC' && currentRound?.state === 'RUNNING')
  await killControlPlane(scenario.controlPlane())
  vi.unstubAllEnvs()
  await scenario.restartControlPlane()

  const ended = await scenario.until(id, hasEnded)
  expect(ended).toMatchObject({ state: 'COMPLETED', verified: true })
  expect([...new Set(await phasesEntered(id))]).toEqual(phaseLists[1]!.map(({ name }) => name))
  scenario.records.moveTo(workloadEndpoint(ended, 8080))
  await scenario.records.stop()
  expect(await scenario.records.count()).toBe(scenario.records.acknowledged())

  const entered = await phasesUntilCancelled(await startBack())
  expect(entered).toEqual(phaseLists[newestVersion(phaseLists)]!.slice(0, entered.length).map(({ name }) => name))
  expect(entered).toContain('ADMISSION')
})
