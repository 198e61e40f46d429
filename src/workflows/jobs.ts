/** Everything of jobs and their parent VMs: what the engine runs, and what operators may do. */
import { and, eq, inArray } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { jobs } from '../database/tables/job.ts'
import { parentVms } from '../database/tables/parent-vm.ts'
import type { DurableWorkflow } from '../engine/durable-workflow.ts'
import type { PluginLog } from '../plugin-sdk/index.ts'
import type { CloudConnections } from './cloud-connections.ts'
import type { Idempotency } from './idempotency.ts'
import { createJobOperations, type JobOperations } from './job-operations.ts'
import { createJobRunner } from './job-runner.ts'
import { createJobWorkflow, jobWorkflowName } from './job-workflow.ts'
import type { MigrationTimings } from './migration-settings.ts'
import { childImageOf, parentImageOf, type ParentArtifacts } from './parent-image-of.ts'
import { createParentVmOperations, type ParentVmOperations } from './parent-vm-operations.ts'
import { createParentVmRunner } from './parent-vm-runner.ts'
import { createPausedChildren } from './paused-children.ts'
import { createParentVmWorkflow, parentVmRunKey, parentVmWorkflowName } from './parent-vm-workflow.ts'

export interface Jobs {
  workflows: DurableWorkflow[]
  /** Submits what an earlier run of the control plane had not ended. */
  begin(engine: EngineAccess): Promise<JobOperations & ParentVmOperations>
  close(): Promise<void>
}

interface EngineAccess {
  id: string
  /** Must not throw. */
  submit: (workflow: string, key: string, taken: { engineId: string }) => Promise<void>
  idempotency: Idempotency
}

export function createJobs(dependencies: {
  database: Database
  connections: CloudConnections
  artifacts: ParentArtifacts
  timings: MigrationTimings
  log: PluginLog
}): Jobs {
  const { database, artifacts } = dependencies
  const pausedChildren = createPausedChildren(dependencies)
  const childImage = childImageOf(artifacts)
  const parentVmRunner = createParentVmRunner({ ...dependencies, pausedChildren, image: parentImageOf(artifacts), childImage })
  const jobRunner = createJobRunner({ ...dependencies, pausedChildren, childImage })

  return {
    workflows: [createParentVmWorkflow(parentVmRunner), createJobWorkflow(jobRunner)],
    async begin({ id, submit, idempotency }) {
      const submitJob = async (jobId: string) => {
        const [job] = await database.select({ engineId: jobs.engineId }).from(jobs).where(eq(jobs.id, jobId))
        if (job) await submit(jobWorkflowName, jobId, job)
      }
      const submitParent = async (parentVmId: string) => {
        const [parent] = await database.select().from(parentVms).where(eq(parentVms.id, parentVmId))
        if (parent) await submit(parentVmWorkflowName, parentVmRunKey(parent), parent)
      }
      const orphanedParents = await database
        .select({ id: parentVms.id })
        .from(parentVms)
        .where(and(eq(parentVms.engineId, id), inArray(parentVms.state, ['REGISTERED', 'BUILDING', 'DELETING'])))
      for (const parent of orphanedParents) await submitParent(parent.id)
      const orphanedJobs = await database
        .select({ id: jobs.id })
        .from(jobs)
        .where(and(eq(jobs.engineId, id), inArray(jobs.state, ['PENDING', 'RUNNING'])))
      for (const job of orphanedJobs) await submitJob(job.id)
      pausedChildren.begin(id)
      return {
        ...createParentVmOperations({ idempotency, engineId: id, submitParent }),
        ...createJobOperations({ database, idempotency, engineId: id, submit: submitJob }),
      }
    },
    async close() {
      await Promise.all([parentVmRunner.close(), jobRunner.close()])
      await pausedChildren.close()
    },
  }
}
