import type { DurableWorkflow } from '../engine/durable-workflow.ts'
import type { MigrationRow } from './migration-store.ts'
import type { PhaseRunner } from './phase-runner.ts'

/** The engine keeps its journals under this name. */
export const migrationWorkflowName = 'Migration'

/** The engine takes each run's key once: the migration's id, for what begins after its end more than that. */
export function runKey({ id, run }: Pick<MigrationRow, 'id' | 'run'>): string {
  return run === 1 ? id : `${id}.${run}`
}

export function migrationIdOf(key: string): string {
  return key.split('.')[0]!
}

/**
 * One step of the journal a phase, or a slice of a long one, under the name that the step before it gave. What the phases did is in the database, so the journal holds
 * names only, and a changed list of phases doesn't contradict it.
 */
export function createMigrationWorkflow(runner: PhaseRunner): DurableWorkflow {
  return {
    name: migrationWorkflowName,
    async run(key, steps) {
      let next: string | null = 'BEGIN'
      while (next !== null) next = await steps.run(next, () => runner.advance(key))
    },
  }
}
