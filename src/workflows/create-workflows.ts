/** Composition of everything durable: the engine, the runner of phases, and what mutations may do. */
import { inArray, and, eq } from 'drizzle-orm'
import type { AgentGateway } from '../agent-gateway/gateway.ts'
import type { Database } from '../database/client.ts'
import { migrations } from '../database/tables/migration.ts'
import { migrationGroups } from '../database/tables/migration-group.ts'
import { openEngine, type Engine, type EngineLocation } from '../engine/engine.ts'
import type { PluginLog } from '../plugin-sdk/index.ts'
import type { SealKey } from '../secrets/seal.ts'
import { createAdmission } from './admission.ts'
import { createLimitOperations } from './admission-limits.ts'
import { createAfterEndOperations } from './after-end-operations.ts'
import { createApiTokenOperations } from './api-token-operations.ts'
import { createAuditTrail, type AuditTrail } from './audit-trail.ts'
import { createAuditWitness } from './audit-witness.ts'
import { createBandwidthOperations } from './bandwidth-operations.ts'
import { createCarryBack } from './carry-back.ts'
import { createCloudConnections, type PluginConnector } from './cloud-connections.ts'
import { createCloudOperations } from './cloud-operations.ts'
import { createFreezeLeases } from './freeze-leases.ts'
import { groupCutover } from './group-cutover.ts'
import { createGroupOperations } from './group-operations.ts'
import { createGroupRunner } from './group-runner.ts'
import { createGroupWorkflow, groupRunKey, groupWorkflowName } from './group-workflow.ts'
import { createIdempotency } from './idempotency.ts'
import { createJobs } from './jobs.ts'
import { createMigrationCheck } from './migration-check.ts'
import { createMigrationOperations } from './migration-operations.ts'
import { defaultTimings, type MigrationArtifacts, type MigrationTimings } from './migration-settings.ts'
import { createMigrationStart } from './migration-start.ts'
import { createMigrationStore } from './migration-store.ts'
import { attestedDead } from './attested-dead.ts'
import { createMigrationTestOperations } from './migration-test-operations.ts'
import { createMigrationTestStore } from './migration-test-store.ts'
import { createMigrationWorkflow, migrationWorkflowName, runKey } from './migration-workflow.ts'
import type { Operations } from './operations.ts'
import { phaseLists as releasedLists, type PhaseLists } from './phase-lists.ts'
import type { ParentArtifacts } from './parent-image-of.ts'
import { createPhaseRunner } from './phase-runner.ts'
import { createReconciliations } from './reconciliations.ts'
import { refreshTopology } from './topology-refresh.ts'
import { wait } from './wait.ts'
import { webhookAddresses } from './webhook-addresses.ts'
import { createWebhookSecretOperations } from './webhook-secret-operations.ts'
import { createWebhooks } from './webhooks.ts'

export interface Workflows {
  operations: Operations
  audit: AuditTrail
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
  artifacts: MigrationArtifacts & ParentArtifacts
  engine: EngineLocation
  dataDirectory: string
  /** Hosts told to agents before those that the providers suggest. */
  advertise: string[]
  /** Address ranges that webhooks may reach though they are refused by default (see webhook-addresses.ts). */
  webhookAllow?: readonly string[]
  log: PluginLog
  timings?: Partial<MigrationTimings>
  /** Tests give others. */
  phaseLists?: PhaseLists
}): Promise<Workflows> {
  const { database, gateway, plugins, sealKey, artifacts, log, phaseLists = releasedLists } = dependencies
  const connections = createCloudConnections({ database, plugins, sealKey, log })
  const check = createMigrationCheck({ database, connections, artifacts })
  const leases = createFreezeLeases()
  const store = createMigrationStore(database)
  const tests = createMigrationTestStore(database)
  const opened = Promise.withResolvers<Engine>()
  const engineId = opened.promise.then(({ id }) => id)
  const startsLater = engineId.then((id) => createMigrationStart({ check, phaseLists, engineId: id }))
  startsLater.catch(() => {}) // The engine's failure is thrown below.
  const timings = { ...defaultTimings, ...dependencies.timings }
  const admission = createAdmission(database, { engineId, pollMs: timings.pollMs })
  const groupRunner = createGroupRunner({
    database,
    start: { prepare: async (request, cutoverAt) => (await startsLater).prepare(request, cutoverAt) },
    submit: submitMigration,
    timings,
  })
  const runner = createPhaseRunner({
    store,
    clouds: connections,
    gateway,
    leases,
    phaseLists,
    settings: {
      migrationTests: tests,
      attestedDead: (migration) => attestedDead(database, migration),
      webhooks: createWebhooks({ database, sealKey, addresses: webhookAddresses(dependencies.webhookAllow ?? []) }),
      artifacts,
      advertise: dependencies.advertise,
      agentEndpoints: gateway.addresses,
      relayEndpoints: gateway.relayAddresses,
      timings,
      preFlight: (request, signal, own) => check.findings(request, signal, own),
      fixedDowntime: (cloudId) => check.fixedDowntime(cloudId),
      refreshTopology: async (cloudId, signal) => void (await refreshTopology(database, connections, cloudId, signal)),
      admit: (migration) => admission.admit(migration),
      groupCutover: (migrationId) => groupCutover(database, migrationId),
    },
  })
  const reconciliations = createReconciliations({ database, connections, log })
  const jobs = createJobs({ database, connections, artifacts, timings, log })
  const engine = await openEngine({
    location: dependencies.engine,
    dataDirectory: dependencies.dataDirectory,
    workflows: [createMigrationWorkflow(runner), createGroupWorkflow(groupRunner), reconciliations.workflow, ...jobs.workflows],
    log,
  }).catch(async (error: unknown) => {
    opened.reject(error)
    await admission.close()
    await connections.close()
    throw error
  })
  opened.resolve(engine)
  const closing = new AbortController()
  const submissions = new Set<Promise<void>>()

  async function submitMigration(migrationId: string): Promise<void> {
    const migration = await store.read(migrationId)
    await submit(migrationWorkflowName, runKey(migration), migration)
  }

  /**
   * Tries once for the caller, and goes on behind its back: the row is stored, so nothing is lost. What the engine of another control plane on this database took, it runs:
   * a request that is repeated here must not run it a second time.
   */
  async function submit(workflow: string, key: string, taken: { engineId: string | null }): Promise<void> {
    const { id, submit: hand } = await opened.promise
    if (taken.engineId !== id) return
    const attempt = () => hand(workflow, key, AbortSignal.any([closing.signal, AbortSignal.timeout(10_000)]))
    try {
      await attempt()
    } catch (error) {
      log('warn', `${workflow} ${key} could not be handed to the engine yet: ${String(error)}`)
      const later = submitLater(attempt, closing.signal).finally(() => submissions.delete(later))
      submissions.add(later)
    }
  }

  const orphans = await database
    .select({ id: migrations.id })
    .from(migrations)
    .where(and(eq(migrations.engineId, engine.id), inArray(migrations.state, ['PENDING', 'RUNNING', 'PAUSED'])))
  for (const { id } of orphans) await submitMigration(id)
  const submitGroup = async (groupId: string) => {
    const [group] = await database
      .select({ engineId: migrationGroups.engineId })
      .from(migrationGroups)
      .where(eq(migrationGroups.id, groupId))
    if (group) await submit(groupWorkflowName, await groupRunKey(database, groupId), group)
  }
  const orphanedGroups = await database
    .select({ id: migrationGroups.id })
    .from(migrationGroups)
    .where(and(eq(migrationGroups.engineId, engine.id), inArray(migrationGroups.state, ['RUNNING', 'PAUSED'])))
  for (const { id } of orphanedGroups) await submitGroup(id)

  const witness = createAuditWitness(dependencies.dataDirectory, database, (message) => log('error', message))
  const audit = createAuditTrail({ database, sealKey, witness })
  const idempotency = createIdempotency(database, sealKey, audit)
  const start = createMigrationStart({ check, phaseLists, engineId: engine.id })
  const reconciling = await reconciliations.begin({
    id: engine.id,
    submit,
    idempotency,
    refreshTopology: async (cloudId, signal) => void (await refreshTopology(database, connections, cloudId, signal)),
  })
  const forking = await jobs.begin({ id: engine.id, submit, idempotency })
  return {
    audit,
    operations: {
      ...createApiTokenOperations({ idempotency }),
      ...createWebhookSecretOperations({ idempotency, sealKey }),
      ...createCloudOperations({ database, connections, idempotency, sealKey }),
      ...createMigrationTestOperations({ database, connections, idempotency, tests }),
      ...createAfterEndOperations({
        database,
        store,
        connections,
        idempotency,
        phaseLists,
        engineId: engine.id,
        submit: submitMigration,
        submitGroup,
        carryBack: createCarryBack({ connections, start }),
      }),
      ...createMigrationOperations({ check, start, idempotency, submit: submitMigration, store }),
      ...createGroupOperations({ database, check, idempotency, engineId: engine.id, submit: submitGroup }),
      ...forking,
      ...createLimitOperations(idempotency),
      ...createBandwidthOperations({ idempotency }),
      ...reconciling,
    },
    isReady: () => engine.healthy(AbortSignal.timeout(2_000)),
    async close() {
      closing.abort()
      // The runner first: a phase that stopped answers the engine with an error, which the engine tries again, at the next start.
      await Promise.all([runner.close(), groupRunner.close(), reconciliations.close(), jobs.close()])
      await admission.close()
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
