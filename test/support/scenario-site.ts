import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { randomUUID } from 'node:crypto'
import { artifacts } from '../../setup/artifacts.ts'
import { startControlPlane, type ControlPlaneProcess } from '../../src/cli/control-plane-process.ts'
import type { ConfigurationInput } from '../../src/configuration.ts'
import { connectCloud, readClouds, type DemoMigration } from '../../src/cli/demo-migration.ts'
import { migrationFields } from '../../src/cli/demo-documents.ts'
import { demoPlugins, openDemoSite, type DemoCloud, type DemoSite } from '../../src/cli/demo-site.ts'
import { createGraphqlClient, type GraphqlClient } from '../../src/cli/graphql-client.ts'
import { startRecordClient, type RecordClient } from '../../src/cli/record-client.ts'
import { until } from './until.ts'

export interface ScenarioSite {
  directory: string
  site: DemoSite
  source: DemoCloud
  destination: DemoCloud
  vm: Awaited<ReturnType<DemoSite['bootSource']>>
  records: RecordClient
  controlPlane(): ControlPlaneProcess
  api(): GraphqlClient
  /** Starts a control plane again on the same data and ports, after it was killed or stopped; where its database is gone, with a new administrator's token. */
  restartControlPlane(): Promise<void>
  /** startMigration for the scenario's VM; answers with the payload, success or typed error. */
  start(request?: Record<string, unknown>): Promise<StartPayload>
  migration(id: string): Promise<ScenarioMigration>
  /** What it is at, for who asks all the time. */
  progress(id: string): Promise<Pick<ScenarioMigration, 'state' | 'phase'>>
  /** See until. */
  until(id: string, condition: (migration: ScenarioMigration) => boolean, timeoutMs?: number): Promise<ScenarioMigration>
  close(): Promise<void>
}

export type ScenarioMigration = Omit<DemoMigration, 'rounds'> & {
  sourceRoot: string | null
  destinationRoot: string | null
  switchover: number
  currentRound: { state: RoundState } | null
  rounds: { nodes: (DemoMigration['rounds']['nodes'][number] & { state: RoundState; mode: 'FULL' | 'CHANGED' })[] }
  error: { code: string; message: string; remedy: string } | null
}
type RoundState = 'RUNNING' | 'DONE' | 'FAILED'
export interface StartPayload {
  migration?: { id: string }
  code?: string
  message?: string
  remedy?: string
}

const startDocument = `mutation Start($input: StartMigrationInput!) { startMigration(input: $input) { ... on StartMigrationSuccess { migration { id } } ... on Error { code message remedy } } }`
const progressDocument = `query Progress($id: ID!) { migration(id: $id) { state phase } }`
const migrationDocument = `query Migration($id: ID!) { migration(id: $id) { ${migrationFields} sourceRoot destinationRoot switchover error { code } currentRound { state } rounds(first: 100) { nodes { state mode } } } }`

/** Two real clouds, a real VM that writes without end, a control plane of its own: for one test file. */
export async function openScenario(
  {
    from,
    image = artifacts().tinyImage,
    site: shared,
    recordPauseMs,
    ...more
  }: Pick<ConfigurationInput, 'webhooks'> & {
    from: 'east' | 'west'
    agents?: ConfigurationInput['agents']
    /** Of the source VM's disk. */
    image?: string
    /** Used, and neither opened nor closed; its virtual machines are the caller's to delete. */
    site?: DemoSite
    /** Between two records of a client: each costs an emulated guest some 20 ms of its CPU. */
    recordPauseMs?: number
  } = { from: 'east' },
): Promise<ScenarioSite> {
  const directory = await mkdtemp(join(tmpdir(), 'scenario-'))
  const closing: (() => Promise<unknown>)[] = [() => rm(directory, { recursive: true, force: true })]
  const close = async () => {
    const failures: unknown[] = []
    // What can't be ended in order keeps nothing else from being removed.
    for (const step of closing.splice(0).toReversed()) await step().catch((error: unknown) => failures.push(error))
    if (failures.length > 0) throw failures[0]
  }
  try {
    const site = shared ?? (await openDemoSite(join(directory, 'site'), null))
    if (!shared) closing.push(() => site.close())
    const [source, destination] = from === 'east' ? [site.east, site.west] : [site.west, site.east]
    const configuration = {
      api: { port: 0 },
      ...more,
      agents: { listen: [{ host: '0.0.0.0', port: 0 }], ...more.agents },
      plugins: demoPlugins,
    }
    const [vm, first] = await Promise.all([site.bootSource(source, image), startControlPlane(directory, configuration)])
    let controlPlane = first
    closing.push(() => controlPlane.stop())
    let { token } = first
    const api = () => createGraphqlClient(controlPlane.url, token)
    for (const cloud of [site.east, site.west]) await connectCloud(api(), cloud)
    const clouds = await readClouds(api())
    const records = startRecordClient(vm.workload, recordPauseMs)
    closing.push(() => records.stop())

    const migration = async (id: string) => (await api().run<{ migration: ScenarioMigration }>(migrationDocument, { id })).migration
    return {
      directory,
      site,
      source,
      destination,
      vm,
      records,
      controlPlane: () => controlPlane,
      api,
      async restartControlPlane() {
        await controlPlane.stop()
        controlPlane = await startControlPlane(directory, configuration)
        token = controlPlane.token || token
      },
      async start(request = {}) {
        const input = {
          idempotencyKey: randomUUID(),
          sourceVirtualMachineId: clouds.flatMap((cloud) => cloud.virtualMachines.nodes).find(({ uniqueId }) => uniqueId === vm.uniqueId)
            ?.id,
          destinationCloudId: clouds.find(({ name }) => name === destination.name)?.id,
          permittedDowntimeMs: 300_000,
          cutoverPolicy: 'AUTOMATIC',
          healthCheck: { http: { port: 8080, path: '/health', timeoutMs: 180_000 } },
          ...request,
        }
        return (await api().run<{ startMigration: StartPayload }>(startDocument, { input })).startMigration
      },
      migration,
      progress: async (id) =>
        (await api().run<{ migration: Pick<ScenarioMigration, 'state' | 'phase'> }>(progressDocument, { id })).migration,
      until: (id, condition, timeoutMs = 400_000) => until(() => migration(id), condition, timeoutMs),
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** Whether nothing more will happen to it by itself. */
export function hasEnded({ state }: Pick<ScenarioMigration, 'state'>): boolean {
  return ['COMPLETED', 'FAILED', 'CANCELLED', 'ROLLED_BACK'].includes(state)
}

/** Where a tool outside the guest finds the first disk of a VM. */
export async function diskImage(cloud: DemoCloud, vmId: string): Promise<string> {
  const { disks } = await cloud.connection.virtualMachines.describe({ vmId })
  const path = disks[0]?.backingPath
  if (path === undefined) throw new Error(`The cloud ${cloud.name} tells no path of the disk of ${vmId}.`)
  return path
}
