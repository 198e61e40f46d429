import { count, eq } from 'drizzle-orm'
import { jobPrograms, jobs, jobTasks } from '../src/database/tables/job.ts'
import { errorCodes } from '../src/domain/errors.ts'
import { jobPace, type JobPace } from '../src/domain/job-pace.ts'
import {
  taskStates,
  type JobPrivileges,
  type JobRequirements,
  type JobState,
  type PoisonPolicy,
  type TaskPeers,
  type TaskState,
} from '../src/domain/job.ts'
import { builder } from './builder.ts'
import { Cloud } from './cloud.ts'
import type { SchemaDatabase } from './context.ts'
import { describedEnum } from './described-enum.ts'
import { ErrorInterface, errorValue } from './errors.ts'
import { limits } from './limits.ts'
import { Network } from './network.ts'
import { ParentVm, RuntimeEnum } from './parent-vm.ts'
import { rowNode } from './row-node.ts'

export type JobRow = typeof jobs.$inferSelect

export const JobStateEnum = describedEnum<JobState>('JobState', 'The life of a job. The last three are final.', {
  PENDING: 'It waits for a parent VM and its children; `problem` says for what.',
  RUNNING: 'Its tasks are run.',
  SUCCEEDED: 'All its tasks are DONE, or SKIPPED where the job allows that.',
  FAILED: 'A task failed, or something that the job needs; `problem` says what. Results that there are stay.',
  CANCELLED: 'An operator cancelled it. Results that there are stay.',
})

const JobDesireEnum = describedEnum<JobRow['desired']>('JobDesire', 'What an operator last asked of a job.', {
  RUN: 'To run.',
  CANCEL: 'To end; its children are removed.',
})

export const PoisonPolicyEnum = describedEnum<PoisonPolicy>(
  'JobPoisonTaskPolicy',
  'What is done about a task that killed its child three times.',
  {
    FAIL: 'The job fails, and names it.',
    SKIP: 'The task is SKIPPED, and the job goes on.',
  },
)

export const TaskStateEnum = describedEnum<TaskState>('JobTaskState', 'What a task is at. The last three are final.', {
  PENDING: 'It waits for a child, or the job has ended without it.',
  RUNNING: 'A child has it.',
  DONE: 'Its output is kept.',
  FAILED: 'It failed as often as it may; `error` says how.',
  SKIPPED: 'It killed its child as often as it may, and the job went on without it.',
})

export const TaskPeersEnum = describedEnum<TaskPeers>('JobTaskPeers', 'Which tasks a task may send messages to.', {
  INTERACTING: 'Those that it is said to interact with, or that are said to interact with it.',
  ALL: 'Every task of the job.',
})

const LibraryRequirementType = builder.objectRef<JobRequirements['libraries'][number]>('JobLibraryRequirement').implement({
  description: 'A library that the parent VM has to offer.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'As its runtime knows it.' }),
    version: t.exposeString('version', { nullable: true, description: 'Its first numbers, such as `4.17`; null: any.' }),
  }),
})

const Requirements = builder.objectRef<JobRequirements>('JobRequirements').implement({
  description: 'What the parent VM has to offer.',
  fields: (t) => ({
    runtime: t.expose('runtime', { type: RuntimeEnum, description: 'What runs the program.' }),
    runtimeVersion: t.exposeString('runtimeVersion', {
      nullable: true,
      description: 'Its first numbers, such as `18` or `3.11`; null: any.',
    }),
    libraries: t.field({
      type: [LibraryRequirementType],
      description: 'Libraries that it has to have.',
      resolve: ({ libraries }) => libraries,
    }),
    parentVm: t.field({
      type: ParentVm,
      nullable: true,
      description: 'This parent VM and no other; null: whichever fits.',
      resolve: ({ parentVmId }) => parentVmId,
    }),
  }),
})

const Privileges = builder.objectRef<JobPrivileges>('JobPrivileges').implement({
  description: 'What each child may do. It is enforced outside the guest.',
  fields: (t) => ({
    network: t.field({
      type: Network,
      nullable: true,
      description: 'The network that children are on; null: they have no network card.',
      resolve: ({ networkId }) => networkId,
    }),
    cpuShare: t.exposeFloat('cpuShare', { description: 'Cores: 1 is one core.' }),
    memoryBytes: t.expose('memoryBytes', {
      type: 'ByteCount',
      nullable: true,
      description:
        "The most resident memory of a child's process, in bytes; null: as much as its parent's memory and the machine around it take.",
    }),
    diskBytes: t.expose('diskBytes', { type: 'ByteCount', description: 'Bytes that a child may write to its disk.' }),
    maxLifetimeMs: t.exposeInt('maxLifetimeMs', { description: 'How long a child may live, in milliseconds.' }),
    peers: t.expose('peers', { type: TaskPeersEnum, description: 'Which tasks a task may send messages to.' }),
  }),
})

const TaskCount = builder.objectRef<{ state: TaskState; count: number }>('JobTaskCount').implement({
  description: 'How many tasks are at something.',
  fields: (t) => ({
    state: t.expose('state', { type: TaskStateEnum, description: 'What they are at.' }),
    count: t.exposeInt('count', { description: 'How many; may be 0.' }),
  }),
})

const SharedInput = builder.objectRef<{ name: string; value: string }>('JobSharedInput').implement({
  description: 'A read-only input that all tasks of a job see.',
  fields: (t) => ({
    name: t.exposeString('name', { description: "Its name in the program's `context.shared`." }),
    value: t.exposeString('value', { complexity: limits.longValue, description: 'Its text.' }),
  }),
})

export const Job = rowNode('Job', jobs)
Job.implement({
  description:
    'Tasks that are run in children forked from a parent VM. A task may run more than once, since a child may be lost while it runs; its result counts once. Nothing but the results outlives the job.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'For people; need not be unique.' }),
    state: t.expose('state', { type: JobStateEnum, description: 'Its life as a whole.' }),
    desired: t.expose('desired', { type: JobDesireEnum, description: 'What operators last asked for; `state` follows.' }),
    requirements: t.field({
      type: Requirements,
      description: 'What the parent VM has to offer.',
      resolve: ({ request }) => request.requirements,
    }),
    privileges: t.field({ type: Privileges, description: 'What each child may do.', resolve: ({ request }) => request.privileges }),
    childrenWanted: t.int({
      nullable: true,
      description: 'How many children were asked for; null: as many as fit and are of use.',
      resolve: ({ request }) => request.children,
    }),
    retries: t.int({ description: 'Further attempts of a task that failed.', resolve: ({ request }) => request.retries }),
    taskTimeoutMs: t.int({ description: 'How long a task may take, in milliseconds.', resolve: ({ request }) => request.taskTimeoutMs }),
    onPoisonTask: t.field({
      type: PoisonPolicyEnum,
      description: 'What is done about a task that killed its child three times.',
      resolve: ({ request }) => request.onPoisonTask,
    }),
    clouds: t.field({
      type: [Cloud],
      nullable: true,
      description: 'Where children may be; null: wherever the parent VM has a copy.',
      resolve: ({ request }) => request.cloudIds,
    }),
    program: t.string({
      complexity: limits.longValue,
      description: 'Source text.',
      resolve: async ({ id }, _, { db }) => (await programOf(db, id))?.source ?? '',
    }),
    shared: t.field({
      type: [SharedInput],
      description: 'Read-only inputs of all tasks.',
      resolve: async ({ id }, _, { db }) =>
        Object.entries((await programOf(db, id))?.shared ?? {}).map(([name, value]) => ({ name, value })),
    }),
    parentVm: t.field({
      type: ParentVm,
      nullable: true,
      description: 'What its children are forked from; null until it is chosen.',
      resolve: ({ parentVmId }) => parentVmId,
    }),
    parentReason: t.exposeString('parentReason', {
      nullable: true,
      description: 'Why that parent VM: one sentence; null until it is chosen.',
    }),
    parentUnchanged: t.boolean({
      nullable: true,
      description:
        "Whether the parent VM's memory and disk hash the same after the last child as before the first; null until both are known.",
      resolve: ({ parentShaBefore: before, parentShaAfter: after }) =>
        before &&
        after &&
        Object.entries(before).every(
          ([cloudId, { ramSha256, diskSha256 }]) => after[cloudId]?.ramSha256 === ramSha256 && after[cloudId].diskSha256 === diskSha256,
        ),
    }),
    problem: t.field({
      type: ErrorInterface,
      nullable: true,
      description: 'Why it failed, or, before its end, what it waits for; null where there is nothing to say.',
      resolve: ({ problemCode, problemMessage, problemRemedy }) =>
        problemCode === null
          ? null
          : errorValue({
              code: errorCodes.find((code) => code === problemCode) ?? 'INTERNAL',
              message: problemMessage ?? '',
              retryable: false,
              remedy: problemRemedy ?? '',
              path: [],
            }),
    }),
    tasksTotal: t.exposeInt('tasksTotal', { description: 'How many tasks it has.' }),
    taskCounts: t.field({
      type: [TaskCount],
      description: 'How many tasks are at what, each state once.',
      resolve: async (job, _, { db }) => {
        const counts = await countsOf(db, job)
        return taskStates.map((state) => ({ state, count: counts[state] ?? 0 }))
      },
    }),
    componentCount: t.int({
      description: 'Into how many groups the tasks fall, where tasks that interact are in one group: a group runs in one child.',
      resolve: ({ components }) => components,
    }),
    imbalance: t.exposeString('imbalance', {
      nullable: true,
      description: 'A group so large that it decides how long the job takes: one sentence; null where there is none.',
    }),
    tasksPerSecond: t.float({
      nullable: true,
      description: 'Tasks that ended a second, on average since it began; null before the first.',
      resolve: async (job, _, { db }) => (await paceOf(db, job)).tasksPerSecond,
    }),
    etaMs: t.float({
      nullable: true,
      description: 'How long it will take yet at that pace, in milliseconds; null before the first task has ended, and after the job has.',
      resolve: async (job, _, { db }) => (await paceOf(db, job)).etaMs,
    }),
    createdAt: t.expose('createdAt', { type: 'DateTime', description: 'When it was submitted.' }),
    startedAt: t.expose('startedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When its first children were asked for; null before.',
    }),
    endedAt: t.expose('endedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When it had ended, and its children were gone; null before.',
    }),
  }),
})

async function programOf(db: SchemaDatabase, jobId: string) {
  const [program] = await db.select().from(jobPrograms).where(eq(jobPrograms.jobId, jobId))
  return program
}

type Counts = Partial<Record<TaskState, number>>
/** Several fields of one reading of a job ask for them. */
const counted = new WeakMap<JobRow, Promise<Counts>>()

function countsOf(db: SchemaDatabase, job: JobRow): Promise<Counts> {
  const counts = counted.get(job) ?? readCounts(db, job.id)
  counted.set(job, counts)
  return counts
}

async function readCounts(db: SchemaDatabase, jobId: string): Promise<Counts> {
  const rows = await db
    .select({ state: jobTasks.state, tasks: count() })
    .from(jobTasks)
    .where(eq(jobTasks.jobId, jobId))
    .groupBy(jobTasks.state)
  return Object.fromEntries(rows.map(({ state, tasks }) => [state, tasks]))
}

async function paceOf(db: SchemaDatabase, job: JobRow): Promise<JobPace> {
  return jobPace(job, await countsOf(db, job), new Date())
}
