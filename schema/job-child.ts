import { eq } from 'drizzle-orm'
import { jobChildren } from '../src/database/tables/job.ts'
import type { ChildState } from '../src/domain/job.ts'
import { anyOf } from './any-of.ts'
import { builder } from './builder.ts'
import { ChildOriginEnum } from './child-origin.ts'
import { Cloud } from './cloud.ts'
import { connectionType } from './connection-type.ts'
import { page, pageComplexity } from './connection.ts'
import { describedEnum } from './described-enum.ts'
import { Job } from './job.ts'
import { rowNode } from './row-node.ts'

const ChildStateEnum = describedEnum<ChildState>('JobChildState', 'The life of a child VM. The last two are final.', {
  FORKING: 'It is being forked, or boots.',
  READY: 'It answers, and has no tasks.',
  BUSY: 'It runs tasks.',
  LOST: 'It died or fell silent; `lossReason` says how. Another takes its place.',
  DELETED: 'It was removed when its work was done.',
})

export const JobChild = rowNode('JobChild', jobChildren)
JobChild.implement({
  description: 'A child VM of a job.',
  fields: (t) => ({
    ordinal: t.exposeInt('ordinal', {
      description: 'Its number in the job, from 1; one that takes the place of another has a number of its own.',
    }),
    job: t.field({ type: Job, description: 'The job it works for.', resolve: ({ jobId }) => jobId }),
    cloud: t.field({ type: Cloud, description: 'Where it is.', resolve: ({ cloudId }) => cloudId }),
    state: t.expose('state', { type: ChildStateEnum, description: 'Its life.' }),
    origin: t.expose('origin', { type: ChildOriginEnum, description: 'How it came to be.' }),
    wasPaused: t.exposeBoolean('wasPaused', {
      description: 'Whether it stood ready, forked and paused, before the job asked for a child (see `ParentVm.pausedChildren`).',
    }),
    forkMs: t.exposeInt('forkMs', {
      nullable: true,
      description: 'From the request for it to its first answer, in milliseconds; null before.',
    }),
    memoryBytes: t.expose('memoryBytes', {
      type: 'ByteCount',
      nullable: true,
      description: 'Its share of physical memory (PSS) as last read, in bytes; null before.',
    }),
    tasksDone: t.exposeInt('tasksDone', { description: 'Tasks whose results came from it.' }),
    lossReason: t.exposeString('lossReason', { nullable: true, description: 'Why it was lost: one sentence; null where it was not.' }),
    createdAt: t.expose('createdAt', { type: 'DateTime', description: 'When it was asked for.' }),
    endedAt: t.expose('endedAt', { type: 'DateTime', nullable: true, description: 'When it was gone; null before.' }),
  }),
})

const JobChildConnection = connectionType('JobChild', 'child VMs', JobChild)

builder.objectField(Job, 'children', (t) =>
  t.connection(
    {
      type: JobChild,
      description: 'Its child VMs, also those that are gone, by number.',
      complexity: pageComplexity,
      args: { states: t.arg({ type: [ChildStateEnum], description: 'Only those in one of these states.' }) },
      resolve: ({ id }, args, { db }) =>
        page<typeof jobChildren.$inferSelect>(db, jobChildren, {
          args,
          where: [eq(jobChildren.jobId, id), anyOf(jobChildren.state, args.states, ['states'])],
          order: { column: jobChildren.ordinal, direction: 'ASC' },
          orderValue: ({ ordinal }) => ordinal,
        }),
    },
    JobChildConnection,
  ),
)
