import { and, eq } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { migrationEvents } from '../database/tables/migration.ts'
import type { DurableWorkflow } from '../engine/durable-workflow.ts'
import type { MigrationRow } from './migration-store.ts'
import { beginsAfterEnd } from './phase-lists.ts'
import type { PhaseRunner } from './phase-runner.ts'

/** The engine keeps its journals under this name. */
export const migrationWorkflowName = 'Migration'

/** The engine takes each run's key once: the migration's id, for a retry, a rollback or a discard more than that, and more again for a rollback after one that was refused. */
export async function runKey(database: Pick<Database, '$count'>, { id, attempt, phaseListVersion }: MigrationRow): Promise<string> {
  if (!beginsAfterEnd(phaseListVersion)) return attempt === 1 ? id : `${id}.${attempt}.${phaseListVersion}`
  const { migrationId, kind, phase } = migrationEvents
  // A phase that only goes forward fails in no other way.
  const isRefusal = and(eq(migrationId, id), eq(migrationEvents.attempt, attempt), eq(kind, 'PHASE_FAILED'), eq(phase, 'STOP_DESTINATION'))
  const refusals = await database.$count(migrationEvents, isRefusal)
  return `${id}.${attempt}.${phaseListVersion}${refusals === 0 ? '' : `.${refusals}`}`
}

/**
 * One step of the journal a phase, or a slice of a long one, under the name that the step before it gave. What the phases did is in the database, so the journal holds
 * names only, and a changed list of phases doesn't contradict it.
 */
export function createMigrationWorkflow(runner: PhaseRunner): DurableWorkflow {
  return {
    name: migrationWorkflowName,
    async run(key, steps) {
      const [migrationId = ''] = key.split('.')
      let next: string | null = 'BEGIN'
      while (next !== null) next = await steps.run(next, () => runner.advance(migrationId))
    },
  }
}
