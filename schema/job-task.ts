import { and, count, eq } from 'drizzle-orm'
import { jobTaskLogs, jobTasks } from '../src/database/tables/job.ts'
import { anyOf } from './any-of.ts'
import { builder } from './builder.ts'
import { connectionType } from './connection-type.ts'
import { pageComplexity } from './connection.ts'
import type { SchemaDatabase } from './context.ts'
import { JobChild } from './job-child.ts'
import { Job, TaskStateEnum } from './job.ts'
import { limits } from './limits.ts'
import { numberedPage } from './numbered-page.ts'

/** What may be long is read only where it is asked for. */
const { jobId, index, state, component, attempts, failures, kills, childId, durationMs, startedAt, endedAt, error } = jobTasks
const shortColumns = { jobId, index, state, component, attempts, failures, kills, childId, durationMs, startedAt, endedAt, error }
type TaskRow = Pick<typeof jobTasks.$inferSelect, keyof typeof shortColumns>

/** A value of up to 1 MiB. */
const long = limits.longValue
const longLog = 20

const JobTask = builder.objectRef<TaskRow>('JobTask')
JobTask.implement({
  description: 'A task of a job. It runs at least once; its result counts once.',
  fields: (t) => ({
    index: t.exposeInt('index', { description: 'Its place in the list that was submitted, from 0.' }),
    state: t.expose('state', { type: TaskStateEnum, description: 'What it is at.' }),
    component: t.exposeInt('component', {
      description:
        'The group that it belongs to: tasks that interact are in one group, and run in one child at one time. 0 is the largest.',
    }),
    attempts: t.exposeInt('attempts', { description: 'How often it was given to a child.' }),
    failures: t.exposeInt('failures', { description: 'How often it failed by itself, or took too long.' }),
    kills: t.exposeInt('kills', { description: 'How many children died while they ran it.' }),
    child: t.field({
      type: JobChild,
      nullable: true,
      description: 'The child that has it or had it last; null before the first.',
      resolve: (task) => task.childId,
    }),
    durationMs: t.exposeInt('durationMs', {
      nullable: true,
      description: 'How long it took in the child, in milliseconds; null until it is DONE.',
    }),
    error: t.exposeString('error', {
      nullable: true,
      description: 'How its last failed attempt failed: one sentence; null where none did.',
    }),
    startedAt: t.expose('startedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When its last attempt began; null before the first.',
    }),
    endedAt: t.expose('endedAt', { type: 'DateTime', nullable: true, description: 'When it had ended; null before.' }),
    interactsWith: t.field({
      type: ['Int'],
      description: 'Tasks that it named when it was submitted.',
      resolve: async (task, _, { db }) => (await longColumns(db, task))?.interactsWith ?? [],
    }),
    input: t.field({
      type: 'JSON',
      nullable: true,
      complexity: long,
      description: 'What it was given.',
      resolve: async (task, _, { db }) => (await longColumns(db, task))?.input,
    }),
    output: t.field({
      type: 'JSON',
      nullable: true,
      complexity: long,
      description: 'What it gave; null until it is DONE. For those of many tasks see `collectiveOutput`.',
      resolve: async (task, _, { db }) => (await longColumns(db, task))?.output,
    }),
    log: t.string({
      nullable: true,
      complexity: longLog,
      description: 'What it wrote by `context.log`, in all its attempts: 64 KiB at most. Null where it wrote nothing.',
      resolve: async (task, _, { db }) => (await logOf(db, task))?.text ?? null,
    }),
    logTruncated: t.boolean({
      description: 'Whether it wrote more than is kept.',
      resolve: async (task, _, { db }) => (await logOf(db, task))?.truncated ?? false,
    }),
  }),
})

async function longColumns(db: SchemaDatabase, task: TaskRow) {
  const { interactsWith, input, output } = jobTasks
  const [row] = await db.select({ interactsWith, input, output }).from(jobTasks).where(isTask(jobTasks, task))
  return row
}

async function logOf(db: SchemaDatabase, task: TaskRow) {
  const [log] = await db.select().from(jobTaskLogs).where(isTask(jobTaskLogs, task))
  return log
}

function isTask(table: typeof jobTasks | typeof jobTaskLogs, task: Pick<TaskRow, 'jobId' | 'index'>) {
  return and(eq(table.jobId, task.jobId), eq(table.index, task.index))
}

const JobTaskConnection = connectionType('JobTask', 'tasks', JobTask)

builder.objectFields(Job, (t) => ({
  tasks: t.connection(
    {
      type: JobTask,
      description: 'Its tasks, in the order in which they were submitted.',
      complexity: pageComplexity,
      args: { states: t.arg({ type: [TaskStateEnum], description: 'Only those in one of these states.' }) },
      resolve: ({ id }, args, { db }) => {
        const those = and(eq(jobTasks.jobId, id), anyOf(jobTasks.state, args.states, ['states']))
        return numberedPage<TaskRow>({
          args,
          column: jobTasks.index,
          numberOf: (task) => task.index,
          read: ({ where, order, limit }) => db.select(shortColumns).from(jobTasks).where(and(those, where)).orderBy(order).limit(limit),
          totalCount: async () => (await db.select({ tasks: count() }).from(jobTasks).where(those))[0]?.tasks ?? 0,
        })
      },
    },
    JobTaskConnection,
  ),
  task: t.field({
    type: JobTask,
    nullable: true,
    description: 'One task, or null where there is none of that index.',
    args: { index: t.arg.int({ required: true, description: 'Its place in the list that was submitted, from 0.' }) },
    resolve: async ({ id }, args, { db }) => {
      const [task] = await db
        .select(shortColumns)
        .from(jobTasks)
        .where(isTask(jobTasks, { jobId: id, index: args.index }))
      return task ?? null
    },
  }),
}))
