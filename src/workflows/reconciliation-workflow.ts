import type { DurableWorkflow } from '../engine/durable-workflow.ts'
import type { ReconciliationRunner } from './reconciliation-runner.ts'

/** The engine keeps its journals under this name. */
export const reconciliationWorkflowName = 'Reconciliation'

export function createReconciliationWorkflow(runner: ReconciliationRunner): DurableWorkflow {
  return {
    name: reconciliationWorkflowName,
    async run(key, steps) {
      let next: string | null = 'LOOK'
      while (next !== null) next = await steps.run(next, () => runner.advance(key))
    },
  }
}
