import { and, count, eq } from 'drizzle-orm'
import { jobEvents } from '../src/database/tables/job.ts'
import type { JobEventKind } from '../src/domain/job.ts'
import { anyOf } from './any-of.ts'
import { builder } from './builder.ts'
import { connectionType } from './connection-type.ts'
import { pageComplexity } from './connection.ts'
import { describedEnum } from './described-enum.ts'
import { JobChild } from './job-child.ts'
import { Job } from './job.ts'
import { numberedPage } from './numbered-page.ts'

type Row = typeof jobEvents.$inferSelect

const EventKind = describedEnum<JobEventKind>('JobEventKind', 'What kind of thing happened.', {
  STATE_CHANGED: 'The state of the job changed.',
  PARENT_CHOSEN: 'The parent VM was chosen.',
  PARTITIONED: 'The tasks were handed out in groups.',
  CHILD_READY: 'A child gave its first answer.',
  CHILD_LOST: 'A child died or fell silent.',
  CHILD_DELETED: 'A child was removed.',
  TASK_FAILED: 'A task failed as often as it may.',
  TASK_SKIPPED: 'A task was skipped, since it killed its child as often as it may.',
  NOTICE: 'Something that an operator wants to know.',
})

const JobEvent = builder.objectRef<Row>('JobEvent').implement({
  description: 'Something that happened in a job. Events are only ever added.',
  fields: (t) => ({
    sequence: t.exposeInt('sequence', { description: 'Grows with each event of its job, from 1.' }),
    kind: t.expose('kind', { type: EventKind, description: 'What kind of thing happened.' }),
    message: t.exposeString('message', { description: 'What happened: one sentence.' }),
    child: t.field({
      type: JobChild,
      nullable: true,
      description: 'The child that it is about; null where it is about none.',
      resolve: ({ childId }) => childId,
    }),
    taskIndex: t.exposeInt('taskIndex', {
      nullable: true,
      description: 'The index of the task that it is about; null where it is about none.',
    }),
    at: t.expose('at', { type: 'DateTime', description: 'When it happened.' }),
  }),
})

const JobEventConnection = connectionType('JobEvent', 'job events', JobEvent)

builder.objectField(Job, 'events', (t) =>
  t.connection(
    {
      type: JobEvent,
      description: 'What happened, in order: the timeline of the job.',
      complexity: pageComplexity,
      args: { kinds: t.arg({ type: [EventKind], description: 'Only those of one of these kinds.' }) },
      resolve: ({ id }, args, { db }) => {
        const those = and(eq(jobEvents.jobId, id), anyOf(jobEvents.kind, args.kinds, ['kinds']))
        return numberedPage<Row>({
          args,
          column: jobEvents.sequence,
          numberOf: ({ sequence }) => sequence,
          read: ({ where, order, limit }) => db.select().from(jobEvents).where(and(those, where)).orderBy(order).limit(limit),
          totalCount: async () => (await db.select({ events: count() }).from(jobEvents).where(those))[0]?.events ?? 0,
        })
      },
    },
    JobEventConnection,
  ),
)
