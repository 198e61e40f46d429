import { and, asc, eq, gt, lte, sql } from 'drizzle-orm'
import { jobTasks } from '../src/database/tables/job.ts'
import type { TaskState } from '../src/domain/job.ts'
import { builder } from './builder.ts'
import { within } from './invalid-input.ts'
import { Job, TaskStateEnum } from './job.ts'
import { limits } from './limits.ts'

interface Output {
  index: number
  state: TaskState
  output: unknown
}

const JobOutput = builder.objectRef<Output>('JobOutput').implement({
  description: 'What a task gave.',
  fields: (t) => ({
    index: t.exposeInt('index', { description: "The task's place in the list that was submitted, from 0." }),
    state: t.expose('state', { type: TaskStateEnum, description: 'What the task is at.' }),
    output: t.field({
      type: 'JSON',
      nullable: true,
      description: 'What it gave; null until it is DONE, and where null is what it gave.',
      resolve: ({ output }) => output,
    }),
  }),
})

const JobOutputPage = builder.objectRef<{ outputs: Output[]; nextAfter: number | null }>('JobOutputPage').implement({
  description: 'A part of what the tasks of a job gave, in the order of the tasks.',
  fields: (t) => ({
    outputs: t.field({
      type: [JobOutput],
      description: 'One for each task, without gaps.',
      complexity: { field: 0, multiplier: 1 },
      resolve: ({ outputs }) => outputs,
    }),
    nextAfter: t.exposeInt('nextAfter', {
      nullable: true,
      description: 'Give it as `after` for the next page; null where this one reaches to the last task.',
    }),
  }),
})

const defaultLength = 100

/** No connection: a page ends where it gets too long in bytes, which a connection would pass off for its end. */
builder.objectField(Job, 'collectiveOutput', (t) =>
  t.field({
    type: JobOutputPage,
    description:
      'What its tasks gave, in their order, page by page; the whole would be too long for one answer. While it runs, tasks that are not DONE are there without an output.',
    complexity: ({ first }) => ({ field: 1, multiplier: Math.max(1, Math.min(first, limits.outputs)) }),
    args: {
      first: t.arg.int({
        defaultValue: defaultLength,
        required: true,
        description: `The most tasks of the page: 1 to ${limits.outputs}. It has fewer where their outputs would have more than 8 MiB, but one at least.`,
      }),
      after: t.arg.int({ description: 'The index of the last task of the page before; from the first task where it is left away.' }),
    },
    resolve: async ({ id, tasksTotal }, { first, after }, { db }) => {
      const limit = within(first, 1, limits.outputs, ['first'])
      const those = and(eq(jobTasks.jobId, id), gt(jobTasks.index, after ?? -1))
      const sizes = await db
        .select({ index: jobTasks.index, bytes: sql<number>`coalesce(length(${jobTasks.output}), 0)` })
        .from(jobTasks)
        .where(those)
        .orderBy(asc(jobTasks.index))
        .limit(limit)
      let bytes = 0
      const fitting = sizes.filter((size, place) => (bytes += size.bytes) <= limits.outputsBytes || place === 0)
      const last = fitting.at(-1)?.index
      if (last === undefined) return { outputs: [], nextAfter: null }
      const outputs = await db
        .select({ index: jobTasks.index, state: jobTasks.state, output: jobTasks.output })
        .from(jobTasks)
        .where(and(those, lte(jobTasks.index, last)))
        .orderBy(asc(jobTasks.index))
      return { outputs, nextAfter: last < tasksTotal - 1 ? last : null }
    },
  }),
)
