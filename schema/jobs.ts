import { eq } from 'drizzle-orm'
import { jobs } from '../src/database/tables/job.ts'
import { anyOf } from './any-of.ts'
import { builder } from './builder.ts'
import { connectionType } from './connection-type.ts'
import { page, pageComplexity } from './connection.ts'
import { rowIdOf } from './global-id.ts'
import { Job, JobStateEnum, type JobRow } from './job.ts'
import { ParentVm } from './parent-vm.ts'

const JobConnection = connectionType('Job', 'jobs', Job)
const newestFirst = {
  order: { column: jobs.createdAt, direction: 'DESC' as const },
  orderValue: ({ createdAt }: JobRow) => createdAt.getTime(),
}

builder.queryField('jobs', (t) =>
  t.connection(
    {
      type: Job,
      authScopes: { viewer: true },
      description: 'All jobs, newest first.',
      complexity: pageComplexity,
      args: { states: t.arg({ type: [JobStateEnum], description: 'Only those in one of these states.' }) },
      resolve: (_, args, { db }) => page<JobRow>(db, jobs, { args, where: [anyOf(jobs.state, args.states, ['states'])], ...newestFirst }),
    },
    JobConnection,
  ),
)

builder.queryField('job', (t) =>
  t.field({
    type: Job,
    nullable: true,
    authScopes: { viewer: true },
    description: 'The job with this id, or null where there is none.',
    args: { id: t.arg.id({ required: true, description: "A job's `id`." }) },
    resolve: (_, { id }) => rowIdOf('Job', id, ['id']),
  }),
)

builder.objectField(ParentVm, 'jobs', (t) =>
  t.connection(
    {
      type: Job,
      description: 'Jobs whose children are or were forked from it, newest first.',
      complexity: pageComplexity,
      resolve: ({ id }, args, { db }) => page<JobRow>(db, jobs, { args, where: [eq(jobs.parentVmId, id)], ...newestFirst }),
    },
    JobConnection,
  ),
)
