import { eq } from 'drizzle-orm'
import { jobs } from '../src/database/tables/job.ts'
import { PortolanError } from '../src/domain/errors.ts'
import { builder } from './builder.ts'
import type { SchemaDatabase } from './context.ts'
import { rowIdOf } from './global-id.ts'
import { Job } from './job.ts'
import { watch } from './watch.ts'

builder.subscriptionField('jobProgress', (t) =>
  t.field({
    type: Job,
    authScopes: { viewer: true },
    description:
      'The job as it is now, and again whenever it, its tasks or its children change, at most ten times a second. Completes when the job has ended.',
    args: { jobId: t.arg.id({ required: true, description: "The job's `id`." }) },
    subscribe: async (_, { jobId }, { db, changes }) => {
      const id = rowIdOf('Job', jobId, ['jobId'])
      await findJob(db, id)
      return watch(changes, { topics: ['JOB'], subject: id }, async () => {
        const job = await findJob(db, id)
        return { events: [job], last: job.endedAt !== null }
      })
    },
    resolve: (job) => job,
  }),
)

/** @throws PortolanError NOT_FOUND */
async function findJob(db: SchemaDatabase, id: string) {
  const [job] = await db.select().from(jobs).where(eq(jobs.id, id))
  if (job) return job
  throw new PortolanError('NOT_FOUND', 'There is no job with this id.', {
    retryable: false,
    remedy: 'Read the ids of the jobs that there are from `jobs`.',
    path: ['jobId'],
  })
}
