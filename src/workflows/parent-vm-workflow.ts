import type { DurableWorkflow } from '../engine/durable-workflow.ts'

/** The engine keeps its journals under this name. */
export const parentVmWorkflowName = 'ParentVm'

/** The engine takes each key once: the parent's id, and which time that something is asked of it. */
export function parentVmRunKey({ id, run }: { id: string; run: number }): string {
  return `${id}.${run}`
}

export function parseParentVmRun(key: string): { parentVmId: string; run: number } {
  const [parentVmId = '', run] = key.split('.')
  return { parentVmId, run: Number(run) }
}

/** One step of the journal a slice of time: what was done is in the database. */
export function createParentVmWorkflow(runner: { advance(key: string): Promise<string | null> }): DurableWorkflow {
  return {
    name: parentVmWorkflowName,
    async run(key, steps) {
      let next: string | null = 'BEGIN'
      while (next !== null) next = await steps.run(next, () => runner.advance(key))
    },
  }
}
