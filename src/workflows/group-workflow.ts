import type { DurableWorkflow } from '../engine/durable-workflow.ts'
import type { GroupRunner } from './group-runner.ts'

/** The engine keeps its journals under this name. */
export const groupWorkflowName = 'MigrationGroup'

/** One step of the journal a slice of time: what was done is in the database. */
export function createGroupWorkflow(runner: GroupRunner): DurableWorkflow {
  return {
    name: groupWorkflowName,
    async run(groupId, steps) {
      let next: string | null = 'WATCH'
      while (next !== null) next = await steps.run(next, () => runner.advance(groupId))
    },
  }
}
