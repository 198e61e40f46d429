/** Everything around one migration but the engine: database, fake clouds, fake agents, a health port, and the runner that a test drives by hand. */
import { createServer, type Server } from 'node:http'
import { mkdtemp, rm } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { openDatabase, type Database } from '../../../src/database/client.ts'
import { clouds } from '../../../src/database/tables/cloud.ts'
import { desc, eq } from 'drizzle-orm'
import { migrationTests } from '../../../src/database/tables/migration-test.ts'
import { activeMigrations } from '../../../src/database/tables/migration.ts'
import type { MigrationRequest } from '../../../src/domain/migration-request.ts'
import { sealKeyOf } from '../../../src/secrets/seal.ts'
import type { RoundProgress } from '../../../src/transfer/control-protocol.ts'
import { createAfterEndOperations, type AfterEndOperations } from '../../../src/workflows/after-end-operations.ts'
import { createBandwidthOperations } from '../../../src/workflows/bandwidth-operations.ts'
import { createAdmission } from '../../../src/workflows/admission.ts'
import { createCarryBack } from '../../../src/workflows/carry-back.ts'
import { createFreezeLeases } from '../../../src/workflows/freeze-leases.ts'
import { groupCutover } from '../../../src/workflows/group-cutover.ts'
import { createIdempotency } from '../../../src/workflows/idempotency.ts'
import { createMigrationCheck } from '../../../src/workflows/migration-check.ts'
import { createMigrationOperations, type MigrationOperations } from '../../../src/workflows/migration-operations.ts'
import { createMigrationStart } from '../../../src/workflows/migration-start.ts'
import { createMigrationTestOperations } from '../../../src/workflows/migration-test-operations.ts'
import { createMigrationTestStore, type MigrationTestRow } from '../../../src/workflows/migration-test-store.ts'
import type { Operations } from '../../../src/workflows/operations.ts'
import type { MigrationTimings } from '../../../src/workflows/migration-settings.ts'
import { createMigrationStore, type MigrationRow, type MigrationStore } from '../../../src/workflows/migration-store.ts'
import { phaseLists as releasedLists, type PhaseLists } from '../../../src/workflows/phase-lists.ts'
import { runKey } from '../../../src/workflows/migration-workflow.ts'
import { createPhaseRunner, type PhaseRunner } from '../../../src/workflows/phase-runner.ts'
import { refreshTopology } from '../../../src/workflows/topology-refresh.ts'
import { webhookAddresses } from '../../../src/workflows/webhook-addresses.ts'
import { createWebhooks, type Webhooks } from '../../../src/workflows/webhooks.ts'
import { createFakeClouds, type CallHook } from './fake-clouds.ts'
import { createFakeGateway } from './fake-gateway.ts'
import { createFakeWorld, sourceUniqueId, type DestinationMachine, type FakeWorld } from './fake-world.ts'
import { artifacts, migrationRequest, operator, quickTimings } from './migration-settings-for-tests.ts'

export { operator, quickTimings }

export interface MigrationStage {
  world: FakeWorld
  database: Database
  store: MigrationStore
  /** What an administrator said of the source. */
  attested: { dead: boolean }
  /** Its newest first. */
  testsOf(migrationId: string): Promise<MigrationTestRow[]>
  operations: MigrationOperations & AfterEndOperations & Pick<Operations, 'testMigration'> & ReturnType<typeof createBandwidthOperations>
  closedMigrations: string[]
  restartDestinationAgent(): void
  listenersForDestination(): number
  dropSourceControlLink(dropped: boolean): void
  reportProgress(progress: RoundProgress): void
  health: { status: number }
  /** Another runner is another process: it knows nothing of the freezes that the one before it kept. */
  runner(lists?: PhaseLists): PhaseRunner
  start(change?: Partial<MigrationRequest>): Promise<string>
  /** Asks again and again, as the engine does, also after a rejection that `tolerate` accepts. */
  drive(runner: PhaseRunner, id: string): Promise<MigrationRow>
  isLocked(): Promise<boolean>
  close(): Promise<void>
}

export const leftMachineId = 'left'
export const leftMachine: DestinationMachine = {
  uniqueId: sourceUniqueId,
  power: 'STOPPED',
  system: 'COPY',
  content: 0,
  sealed: false,
  exposed: true,
  overlay: false,
}

export async function setMigrationStage(
  options: {
    hook?: CallHook
    pendingMs?: (round: number) => number
    timings?: Partial<MigrationTimings>
    webhooks?: Webhooks
    /** What hands a migration to the engine, of which there is none. */
    submit?: (migrationId: string) => Promise<void>
    /** The machine came from west, where it has left one that is off. */
    leftAtWest?: boolean
  } = {},
): Promise<MigrationStage> {
  const directory = await mkdtemp(join(tmpdir(), 'portolan-workflow-'))
  const database = await openDatabase({ dataDirectory: directory })
  const health = { status: 200 }
  const server = createServer((_request, response) => response.writeHead(health.status).end())
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  const world = createFakeWorld()
  if (options.leftAtWest) world.change('left', ({ machines }) => void (machines[leftMachineId] = leftMachine))
  const { east, west } = createFakeClouds(world, { ...options, healthPort: (server.address() as AddressInfo).port })
  const gateway = createFakeGateway(world, options)
  const connections = {
    connection: async (cloudId: string) => (cloudId === 'east' ? east : west),
  }
  const refresh = async (cloudId: string, signal: AbortSignal) => void (await refreshTopology(database, connections, cloudId, signal))
  await storeClouds(database)
  await refresh('east', new AbortController().signal)
  await refresh('west', new AbortController().signal)

  const check = createMigrationCheck({ database, connections, artifacts })
  const store = createMigrationStore(database)
  const sealKey = sealKeyOf(Buffer.alloc(32, 7))
  const tests = createMigrationTestStore(database)
  const attested = { dead: false }
  const idempotency = createIdempotency(database, sealKey)
  const engineSide = { idempotency, phaseLists: releasedLists, engineId: 'none', submit: options.submit ?? (async () => {}) }
  const start = createMigrationStart({ check, ...engineSide })
  const carryBack = createCarryBack({ connections, start })
  const operations = {
    ...createMigrationOperations({ ...engineSide, check, start, store }),
    ...createAfterEndOperations({ ...engineSide, database, store, connections, submitGroup: async () => {}, carryBack }),
    ...createMigrationTestOperations({ database, connections, idempotency, tests }),
    ...createBandwidthOperations(engineSide),
  }
  const admission = createAdmission(database, { engineId: Promise.resolve('none'), pollMs: quickTimings.pollMs })
  const runners: PhaseRunner[] = []
  let keys = 0

  return {
    world,
    database,
    store,
    attested,
    testsOf: (migrationId) =>
      database.select().from(migrationTests).where(eq(migrationTests.migrationId, migrationId)).orderBy(desc(migrationTests.requestedAt)),
    operations,
    closedMigrations: gateway.closed,
    restartDestinationAgent: gateway.restartDestinationAgent,
    listenersForDestination: () => gateway.listenersForDestination,
    dropSourceControlLink: (dropped) => void (gateway.sourceConnected = !dropped),
    reportProgress: gateway.reportProgress,
    health,
    runner(phaseLists = releasedLists) {
      const runner = createPhaseRunner({
        store,
        clouds: connections,
        gateway,
        leases: createFreezeLeases(),
        phaseLists,
        settings: {
          artifacts,
          advertise: [],
          agentEndpoints: gateway.addresses,
          relayEndpoints: gateway.relayAddresses,
          timings: { ...quickTimings, ...options.timings },
          preFlight: (request, signal, own) => check.findings(request, signal, own),
          fixedDowntime: async () => ({ freezeMs: 1, bootMs: 1, healthMs: 1 }),
          refreshTopology: refresh,
          admit: (migration) => admission.admit(migration),
          groupCutover: (migrationId) => groupCutover(database, migrationId),
          migrationTests: tests,
          attestedDead: async () => attested.dead,
          webhooks: options.webhooks ?? createWebhooks({ database, sealKey, addresses: webhookAddresses(['127.0.0.0/8']) }),
        },
      })
      runners.push(runner)
      return runner
    },
    async start(change) {
      return (await operations.startMigration(operator, { ...migrationRequest(change), idempotencyKey: `key-${keys++}` })).migrationId
    },
    async drive(runner, id) {
      const key = runKey(await store.read(id))
      while ((await runner.advance(key)) !== null);
      return store.read(id)
    },
    isLocked: async () => (await database.$count(activeMigrations)) > 0,
    async close() {
      await Promise.all(runners.map((runner) => runner.close()))
      await admission.close()
      await closeServer(server)
      await database.close()
      await rm(directory, { recursive: true })
    },
  }
}

async function storeClouds(database: Database): Promise<void> {
  const row = { pluginId: 'fake', sealedOptions: '', state: 'CONNECTED' as const, capabilities: [], connectedAt: new Date() }
  await database.write((orm) => ['east', 'west'].map((name) => orm.insert(clouds).values({ ...row, id: name, name })))
}

async function closeServer(server: Server): Promise<void> {
  server.closeAllConnections()
  await new Promise((closed) => server.close(closed))
}

/** The source serves as if nothing had been, and nothing of ours is left anywhere but for what was copied, powered off. */
export async function expectUndone(stage: MigrationStage): Promise<void> {
  const { source, machines, rounds, violations } = stage.world.look()
  expect(violations).toEqual([])
  expect(source).toEqual({ power: 'RUNNING', fence: null, agentInstance: null, freeze: null })
  const kept = Object.keys(rounds).length > 0 ? [expect.objectContaining({ power: 'STOPPED', exposed: false })] : []
  expect(Object.values(machines)).toEqual(kept)
  expect(await stage.isLocked()).toBe(false)
  expect(stage.closedMigrations).not.toEqual([])
}

/** One live copy, at the destination, with all that the source held; the source is off and kept. */
export async function expectMoved(stage: MigrationStage): Promise<void> {
  const { source, machines, violations, content } = stage.world.look()
  expect(violations).toEqual([])
  expect(source.power).toBe('STOPPED')
  expect(Object.values(machines)).toEqual([
    expect.objectContaining({ power: 'RUNNING', system: 'COPY', exposed: true, overlay: false, content }),
  ])
  expect(await stage.isLocked()).toBe(false)
  expect(stage.closedMigrations).not.toEqual([])
}
