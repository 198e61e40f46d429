/** Composition of everything durable: the engine, the runner of phases, and what mutations may do. */
import { inArray, and, eq } from 'drizzle-orm'
import type { AgentGateway } from '../agent-gateway/gateway.ts'
import type { Database } from '../database/client.ts'
import { migrations } from '../database/tables/migration.ts'
import { openEngine, type EngineLocation } from '../engine/engine.ts'
import type { PluginLog } from '../plugin-sdk/index.ts'
import type { SealKey } from '../secrets/seal.ts'
import { createCloudConnections, type PluginConnector } from './cloud-connections.ts'
import { createCloudOperations } from './cloud-operations.ts'
import { createFreezeLeases } from './freeze-leases.ts'
import { createIdempotency } from './idempotency.ts'
import { createMigrationCheck } from './migration-check.ts'
import { createMigrationOperations } from './migration-operations.ts'
import { defaultTimings, type MigrationArtifacts, type MigrationTimings } from './migration-settings.ts'
import { createMigrationStart } from './migration-start.ts'
import { createMigrationStore } from './migration-store.ts'
import { createMigrationWorkflow, migrationWorkflowName } from './migration-workflow.ts'
import type { Operations } from './operations.ts'
import { phaseLists as releasedLists, type PhaseLists } from './phase-lists.ts'
import { createPhaseRunner } from './phase-runner.ts'
import { refreshTopology } from './topology-refresh.ts'
import { wait } from './wait.ts'

export interface Workflows {
  operations: Operations
  /** For /ready: whether the engine takes work. */
  isReady(): Promise<boolean>
  /** Stops what runs where it is; it goes on at the next start. */
  close(): Promise<void>
}

/**
 * Opens the engine, hands it the migrations of an earlier run that haven't ended, and returns once it takes work. The caller owns database and gateway (made with
 * `createAuthorityStore(database)`), and closes them afterwards.
 */
export async function createWorkflows(dependencies: {
  database: Database
  gateway: AgentGateway
  plugins: PluginConnector
  sealKey: SealKey
  artifacts: MigrationArtifacts
  engine: EngineLocation
  dataDirectory: string
  /** Hosts told to agents before those that the providers suggest. */
  advertise: string[]
  log: PluginLog
  timings?: Partial<MigrationTimings>
  /** Tests give others. */
  phaseLists?: PhaseLists
}): Promise<Workflows> {
  const { database, gateway, plugins, sealKey, artifacts, log, phaseLists = releasedLists } = dependencies
  const connections = createCloudConnections({ database, plugins, sealKey, log })
  const check = createMigrationCheck({ database, connections, artifacts })
  const leases = createFreezeLeases()
  const runner = createPhaseRunner({
    store: createMigrationStore(database),
    clouds: connections,
    gateway,
    leases,
    phaseLists,
    settings: {
      artifacts,
      advertise: dependencies.advertise,
      agentEndpoints: gateway.addresses,
      relayEndpoints: gateway.relayAddresses,
      timings: { ...defaultTimings, ...dependencies.timings },
      preFlight: (request, signal) => check.findings(request, signal),
      fixedDowntime: (cloudId) => check.fixedDowntime(cloudId),
      refreshTopology: async (cloudId, signal) => void (await refreshTopology(database, connections, cloudId, signal)),
    },
  })
  const engine = await openEngine({
    location: dependencies.engine,
    dataDirectory: dependencies.dataDirectory,
    workflows: [createMigrationWorkflow(runner)],
    log,
  }).catch(async (error: unknown) => {
    await connections.close()
    throw error
  })
  const closing = new AbortController()
  const submissions = new Set<Promise<void>>()

  /** Tries once for the caller, and goes on behind its back: the row is stored, so the migration is not lost. */
  async function submit(migrationId: string): Promise<void> {
    const attempt = () => engine.submit(migrationWorkflowName, migrationId, AbortSignal.any([closing.signal, AbortSignal.timeout(10_000)]))
    try {
      await attempt()
    } catch (error) {
      log('warn', `Migration ${migrationId} could not be handed to the engine yet: ${String(error)}`)
      const later = submitLater(attempt, closing.signal).finally(() => submissions.delete(later))
      submissions.add(later)
    }
  }

  const orphans = await database
    .select({ id: migrations.id })
    .from(migrations)
    .where(and(eq(migrations.engineId, engine.id), inArray(migrations.state, ['PENDING', 'RUNNING', 'PAUSED'])))
  for (const { id } of orphans) await submit(id)

  const idempotency = createIdempotency(database, sealKey)
  const start = createMigrationStart({ check, phaseLists, engineId: engine.id })
  return {
    operations: {
      ...createCloudOperations({ database, connections, idempotency, sealKey }),
      ...createMigrationOperations({ check, start, idempotency, submit }),
    },
    isReady: () => engine.healthy(AbortSignal.timeout(2_000)),
    async close() {
      closing.abort()
      // The runner first: a phase that stopped answers the engine with an error, which the engine tries again, at the next start.
      await runner.close()
      leases.close()
      await engine.close()
      await Promise.allSettled(submissions)
      await connections.close()
    },
  }
}

async function submitLater(attempt: () => Promise<void>, signal: AbortSignal): Promise<void> {
  for (let delayMs = 500; !signal.aborted; delayMs = Math.min(delayMs * 2, 10_000)) {
    try {
      await wait(delayMs, signal)
      return await attempt()
    } catch {
      // Tried again, until the control plane ends; the next start submits it too.
    }
  }
}
