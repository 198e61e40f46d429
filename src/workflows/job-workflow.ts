import type { DurableWorkflow } from '../engine/durable-workflow.ts'

/** The engine keeps its journals under this name. */
export const jobWorkflowName = 'Job'

/** One step of the journal a slice of time: what was done is in the database. */
export function createJobWorkflow(runner: { advance(jobId: string): Promise<string | null> }): DurableWorkflow {
  return {
    name: jobWorkflowName,
    async run(jobId, steps) {
      let next: string | null = 'BEGIN'
      while (next !== null) next = await steps.run(next, () => runner.advance(jobId))
    },
  }
}
