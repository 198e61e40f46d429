import { index, integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import {
  childOrigins,
  childStates,
  jobDesires,
  jobEventKinds,
  jobStates,
  taskStates,
  type JobRequest,
  type ParentHashes,
} from '../../domain/job.ts'
import type { ParentRecipe } from '../../domain/parent-vm.ts'

/** Single writer: its workflow; mutations insert it with its tasks, and write `desired`. */
export const jobs = sqliteTable(
  'jobs',
  {
    id: text().primaryKey(),
    name: text().notNull(),
    state: text({ enum: jobStates }).notNull(),
    desired: text({ enum: jobDesires }).notNull(),
    request: text({ mode: 'json' }).$type<JobRequest>().notNull(),
    /** Null until it is chosen. */
    parentVmId: text(),
    parentGeneration: integer(),
    /** Of that generation: the parent may be registered with another one meanwhile. */
    parentRecipe: text({ mode: 'json' }).$type<ParentRecipe>(),
    /** Why that one, as a sentence. */
    parentReason: text(),
    /** The parent's copies that were used, by cloud: hashed before the first fork, and after the last child was deleted. */
    parentShaBefore: text({ mode: 'json' }).$type<Record<string, ParentHashes>>(),
    parentShaAfter: text({ mode: 'json' }).$type<Record<string, ParentHashes>>(),
    /** The engine that runs it: another control plane on this database leaves it alone. */
    engineId: text().notNull(),
    tasksTotal: integer().notNull(),
    components: integer().notNull(),
    /** A component so large that it decides how long the job takes, as a sentence; null where there is none. */
    imbalance: text(),
    /** Why it failed; or, while it runs, what it waits for. */
    problemCode: text(),
    problemMessage: text(),
    problemRemedy: text(),
    createdAt: integer({ mode: 'timestamp_ms' }).notNull(),
    startedAt: integer({ mode: 'timestamp_ms' }),
    endedAt: integer({ mode: 'timestamp_ms' }),
    updatedAt: integer({ mode: 'timestamp_ms' }).notNull(),
  },
  (table) => [index('jobs_created').on(table.createdAt), index('jobs_state').on(table.state), index('jobs_parent').on(table.parentVmId)],
)

/** Apart from the job, since it may be long and is read once. */
export const jobPrograms = sqliteTable('job_programs', {
  jobId: text().primaryKey(),
  source: text().notNull(),
  shared: text({ mode: 'json' }).$type<Record<string, string>>().notNull(),
})

/** What may be long comes last, so that counting and paging don't read it. */
export const jobTasks = sqliteTable(
  'job_tasks',
  {
    jobId: text().notNull(),
    /** From 0, in the order of the request. */
    index: integer().notNull(),
    state: text({ enum: taskStates }).notNull(),
    /** Which connected component of the interactions: 0 is the largest. */
    component: integer().notNull(),
    /** Times that it was handed to a child. */
    attempts: integer().notNull().default(0),
    /** Times that it failed by itself. */
    failures: integer().notNull().default(0),
    /** Children that died while they ran it. */
    kills: integer().notNull().default(0),
    /** The child that ran it last. */
    childId: text(),
    durationMs: integer(),
    startedAt: integer({ mode: 'timestamp_ms' }),
    endedAt: integer({ mode: 'timestamp_ms' }),
    /** The last failure, as a sentence; kept when a later attempt succeeds. */
    error: text(),
    interactsWith: text({ mode: 'json' }).$type<number[]>().notNull(),
    input: text({ mode: 'json' }).$type<unknown>(),
    /** Set once, with DONE. */
    output: text({ mode: 'json' }).$type<unknown>(),
  },
  (table) => [primaryKey({ columns: [table.jobId, table.index] }), index('job_tasks_state').on(table.jobId, table.state, table.index)],
)

/** What a task wrote by `context.log`, and how much of it is kept: at most 64 KiB, and then an ellipsis. */
export const jobTaskLogs = sqliteTable(
  'job_task_logs',
  {
    jobId: text().notNull(),
    index: integer().notNull(),
    text: text().notNull(),
    truncated: integer({ mode: 'boolean' }).notNull().default(false),
  },
  (table) => [primaryKey({ columns: [table.jobId, table.index] })],
)

export const jobChildren = sqliteTable(
  'job_children',
  {
    id: text().primaryKey(),
    jobId: text().notNull(),
    cloudId: text().notNull(),
    /** From 1 within the job; one that takes the place of a lost child has a number of its own. */
    ordinal: integer().notNull(),
    state: text({ enum: childStates }).notNull(),
    origin: text({ enum: childOrigins }).notNull().default('FORKED'),
    /** Whether it stood ready, forked and paused, before the job asked for a child. */
    wasPaused: integer({ mode: 'boolean' }).notNull().default(false),
    /** From the request of the fork to the child's first answer. */
    forkMs: integer(),
    /** Its share of physical memory (PSS), as last read. */
    memoryBytes: integer(),
    tasksDone: integer().notNull().default(0),
    /** Why it was lost, as a sentence. */
    lossReason: text(),
    createdAt: integer({ mode: 'timestamp_ms' }).notNull(),
    endedAt: integer({ mode: 'timestamp_ms' }),
  },
  (table) => [index('job_children_job').on(table.jobId, table.ordinal)],
)

/** What happened, append-only, in order of `sequence` within a job, from 1. */
export const jobEvents = sqliteTable(
  'job_events',
  {
    jobId: text().notNull(),
    sequence: integer().notNull(),
    kind: text({ enum: jobEventKinds }).notNull(),
    message: text().notNull(),
    childId: text(),
    taskIndex: integer(),
    at: integer({ mode: 'timestamp_ms' }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.jobId, table.sequence] })],
)
