/** Composition of verdicts, attestations and reconciliations: made before the engine, which runs the workflow, and begun once it is open. */
import { and, eq, inArray } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { reconciliations } from '../database/tables/reconciliation.ts'
import type { DurableWorkflow } from '../engine/durable-workflow.ts'
import type { PluginLog } from '../plugin-sdk/index.ts'
import { createAttestationOperations, type AttestationOperations } from './attestation-operations.ts'
import type { CloudConnections } from './cloud-connections.ts'
import type { Idempotency } from './idempotency.ts'
import { createReconciliationOperations, type ReconciliationOperations } from './reconciliation-operations.ts'
import { createReconciliationRunner, idOf, runKeyOf } from './reconciliation-runner.ts'
import { startReconciliationWatch, type ReconciliationWatch } from './reconciliation-watch.ts'
import { createReconciliationWorkflow, reconciliationWorkflowName } from './reconciliation-workflow.ts'
import { createVerdictReader } from './verdict-reader.ts'

export interface Reconciliations {
  workflow: DurableWorkflow
  /** Hands the engine those of an earlier run that haven't ended, and begins to watch for clouds that return. */
  begin(engine: {
    id: string
    submit: (workflow: string, key: string, taken: { engineId: string }) => Promise<void>
    idempotency: Idempotency
    refreshTopology: (cloudId: string, signal: AbortSignal) => Promise<void>
  }): Promise<ReconciliationOperations & AttestationOperations>
  /** Stops what runs where it is; it goes on at the next start. */
  close(): Promise<void>
}

export function createReconciliations(dependencies: {
  database: Database
  connections: Pick<CloudConnections, 'connection'>
  log: PluginLog
}): Reconciliations {
  const { database, connections, log } = dependencies
  const verdicts = createVerdictReader(dependencies)
  const runner = createReconciliationRunner({ database, verdicts })
  const { wake } = runner
  let watch: ReconciliationWatch | null = null

  return {
    workflow: createReconciliationWorkflow(runner),
    async begin({ id: engineId, submit: hand, idempotency, refreshTopology }) {
      const submit = async (runKey: string) => {
        const [row] = await database
          .select()
          .from(reconciliations)
          .where(eq(reconciliations.id, idOf(runKey)))
        if (row) await hand(reconciliationWorkflowName, runKey, row)
      }
      const orphans = await database
        .select()
        .from(reconciliations)
        .where(and(eq(reconciliations.engineId, engineId), inArray(reconciliations.state, ['PENDING', 'WAITING'])))
      for (const row of orphans) await submit(runKeyOf(row))
      watch = startReconciliationWatch({ database, connections, verdicts, engineId, submit, wake, refreshTopology, log })
      return {
        ...createReconciliationOperations({ verdicts, idempotency, engineId, submit }),
        ...createAttestationOperations({
          verdicts,
          idempotency,
          wake() {
            wake()
            watch?.doubt()
          },
        }),
      }
    },
    async close() {
      await watch?.close()
      await runner.close()
    },
  }
}
