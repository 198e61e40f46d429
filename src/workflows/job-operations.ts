/** What operators may do with jobs. A job is stored with all its tasks in one transaction; its workflow does the rest. */
import { createHash, randomUUID } from 'node:crypto'
import { eq, inArray, sql } from 'drizzle-orm'
import type { Database, Transaction } from '../database/client.ts'
import { clouds } from '../database/tables/cloud.ts'
import { jobPrograms, jobs } from '../database/tables/job.ts'
import { parentVms } from '../database/tables/parent-vm.ts'
import { networks } from '../database/tables/topology.ts'
import { PortolanError } from '../domain/errors.ts'
import {
  checkedShared,
  checkedTasks,
  invalidJob,
  requireComponentsFit,
  requireProgram,
  requireRequest,
  type CheckedTask,
  type NewTask,
} from '../domain/job-checks.ts'
import { partition, type Partition } from '../domain/job-partition.ts'
import { isJobEnded, type JobProgram, type JobRequest } from '../domain/job.ts'
import { checkedName } from '../domain/migration-group-members.ts'
import { isParentGone } from '../domain/parent-vm.ts'
import { translated } from './failure.ts'
import type { Idempotency } from './idempotency.ts'
import type { Actor } from './operations.ts'

export interface JobOperations {
  /** Answers once all is stored; the workflow chooses the parent, forks the children and runs the tasks. */
  submitJob(actor: Actor, input: NewJob & { idempotencyKey: string }): Promise<{ jobId: string }>
  /** Tasks that ended keep their results. */
  cancelJob(actor: Actor, input: { idempotencyKey: string; jobId: string }): Promise<{ jobId: string }>
}

export interface NewJob {
  name: string
  request: JobRequest
  program: string
  shared: { name: string; value: string }[]
  tasks: NewTask[]
}

interface CheckedJob {
  name: string
  request: JobRequest
  program: JobProgram
  tasks: CheckedTask[]
}

type JobAnswer = { jobId: string }

/** Long enough that a statement costs little beside its rows, short enough that others get their turn in between. */
const chunkLength = 1_000

export function createJobOperations(dependencies: {
  database: Pick<Database, 'select'>
  idempotency: Idempotency
  engineId: string
  /** Hands a stored job to the engine. Must not throw: what can't be submitted now is submitted later. */
  submit: (jobId: string) => Promise<void>
}): JobOperations {
  const { database, idempotency, engineId, submit } = dependencies

  return {
    submitJob: (actor, input) =>
      translated(async () => {
        const job = checkedJob(input)
        const { idempotencyKey } = input
        const answer = await idempotency.once<JobAnswer>(actor, 'submitJob', { idempotencyKey, ...digested(job) }, async (commit) => {
          const request = await resolved(database, job.request)
          const parts = partition(job.tasks, request.children ?? 1)
          requireComponentsFit(job.tasks, parts.components)
          const id = randomUUID()
          return commit(
            async (tx) => {
              await insertJob(tx, { id, engineId, ...job, request, ...parts })
              return { jobId: id }
            },
            [{ topic: 'JOB', subject: id }],
          )
        })
        await submit(answer.jobId)
        return answer
      }),

    cancelJob: (actor, input) =>
      translated(() =>
        idempotency.once<JobAnswer>(actor, 'cancelJob', input, (commit) =>
          commit(
            async (tx) => {
              const [job] = await tx.select().from(jobs).where(eq(jobs.id, input.jobId))
              if (!job) throw notFound('job', input.jobId, 'jobs', ['jobId'])
              if (isJobEnded(job.state)) throw hasEnded(job)
              await tx.update(jobs).set({ desired: 'CANCEL', updatedAt: new Date() }).where(eq(jobs.id, job.id))
              return { jobId: job.id }
            },
            [{ topic: 'JOB', subject: input.jobId }],
          ),
        ),
      ),
  }
}

/** @throws PortolanError INVALID_INPUT */
function checkedJob(input: NewJob): CheckedJob {
  const name = checkedName(input.name, ['input', 'name'])
  requireRequest(input.request)
  const program = { source: input.program, shared: checkedShared(input.shared) }
  requireProgram(program)
  return { name, request: input.request, program, tasks: checkedTasks(input.tasks) }
}

/** What the idempotency key stands for. The rest would be many megabytes to compare. */
function digested({ name, request, program, tasks }: CheckedJob): Record<string, unknown> {
  const hash = createHash('sha256')
  for (const { inputJson, interactsWith } of tasks) hash.update(`${inputJson}\n${interactsWith.join()}\n`)
  const programDigest = createHash('sha256').update(JSON.stringify(program)).digest('hex')
  return { name, request, programDigest, tasksDigest: hash.digest('hex'), taskCount: tasks.length }
}

/** What the request names has to exist; children with a network are where that network is. */
async function resolved(database: Pick<Database, 'select'>, request: JobRequest): Promise<JobRequest> {
  const { requirements, privileges, cloudIds } = request
  if (requirements.parentVmId !== null) {
    const [parent] = await database.select().from(parentVms).where(eq(parentVms.id, requirements.parentVmId))
    if (!parent || isParentGone(parent.state))
      throw notFound('parent VM', requirements.parentVmId, 'parentVms', ['requirements', 'parentVmId'])
  }
  if (cloudIds !== null) {
    const known = await database.select({ id: clouds.id, state: clouds.state }).from(clouds).where(inArray(clouds.id, cloudIds))
    for (const [place, id] of cloudIds.entries()) {
      const cloud = known.find((one) => one.id === id)
      if (!cloud || cloud.state === 'DISCONNECTED') throw notFound('connected cloud', id, 'clouds', ['cloudIds', `${place}`])
    }
  }
  if (privileges.networkId === null) return request
  const [network] = await database.select().from(networks).where(eq(networks.id, privileges.networkId))
  if (!network) throw notFound('network', privileges.networkId, 'networks', ['privileges', 'networkId'])
  if (cloudIds?.some((id) => id !== network.cloudId))
    throw invalidJob("must be that network's cloud alone, or be left away, since the children have a network", ['cloudIds'])
  return { ...request, cloudIds: [network.cloudId] }
}

async function insertJob(tx: Transaction, job: CheckedJob & Partition & { id: string; engineId: string }): Promise<void> {
  const { id, name, request, program, tasks, engineId, components, oversized } = job
  const now = new Date()
  await tx.insert(jobs).values({
    id,
    name,
    state: 'PENDING',
    desired: 'RUN',
    request,
    engineId,
    tasksTotal: tasks.length,
    components: components.length,
    imbalance: oversized
      ? `The largest component has ${oversized.tasks} tasks, more than the ${oversized.evenShare} that would be a child's even share.`
      : null,
    createdAt: now,
    updatedAt: now,
  })
  await tx.insert(jobPrograms).values({ jobId: id, ...program })
  await insertTasks(tx, { id, tasks, components })
}

/** The database takes the rows apart itself: a tenth of the time that a parameter for each value takes. */
async function insertTasks(
  tx: Transaction,
  { id, tasks, components }: { id: string; tasks: readonly CheckedTask[]; components: readonly (readonly number[])[] },
): Promise<void> {
  const componentOf = new Int32Array(tasks.length)
  for (const [place, members] of components.entries()) for (const index of members) componentOf[index] = place
  for (const chunk of chunksOf(tasks)) {
    const rows = chunk.map(
      ({ index, inputJson, interactsWith }) => `[${index},${componentOf[index]},[${interactsWith.join()}],${inputJson}]`,
    )
    await tx.run(
      sql`insert into job_tasks (jobId, "index", state, component, interactsWith, input) select ${id}, value ->> 0, 'PENDING', value ->> 1, value -> 2, value -> 3 from json_each(${`[${rows.join()}]`})`,
    )
  }
}

/** By number, and by length where inputs are long. */
function* chunksOf(tasks: readonly CheckedTask[]): Generator<CheckedTask[]> {
  let chunk: CheckedTask[] = []
  let characters = 0
  for (const task of tasks) {
    chunk.push(task)
    characters += task.inputJson.length + 6 * task.interactsWith.length
    if (chunk.length < chunkLength && characters < 4_194_304) continue
    yield chunk
    chunk = []
    characters = 0
  }
  if (chunk.length > 0) yield chunk
}

function notFound(what: string, id: string, where: string, path: readonly string[]): PortolanError {
  return new PortolanError('NOT_FOUND', `There is no ${what} ${JSON.stringify(id.slice(0, 100))}; nothing was changed.`, {
    retryable: false,
    remedy: `See \`${where}\` for the ids.`,
    path: ['input', ...path],
  })
}

function hasEnded({ name, state }: typeof jobs.$inferSelect): PortolanError {
  return new PortolanError('NOT_ALLOWED_NOW', `The job ${JSON.stringify(name)} has ended (${state}); nothing was changed.`, {
    retryable: false,
    remedy: 'Submit another.',
    path: ['input', 'jobId'],
  })
}
