import { eq } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { clouds } from '../database/tables/cloud.ts'
import { PortolanError } from '../domain/errors.ts'

/** @throws PortolanError NOT_FOUND for a cloud that is unknown or disconnected. */
export async function requireCloud(database: Database, cloudId: string): Promise<void> {
  const [cloud] = await database.select({ state: clouds.state }).from(clouds).where(eq(clouds.id, cloudId))
  if (cloud && cloud.state !== 'DISCONNECTED') return
  throw new PortolanError('NOT_FOUND', `There is no connected cloud ${cloudId}.`, {
    retryable: false,
    remedy: 'See the list of clouds for the ids.',
    path: ['input', 'cloudId'],
  })
}
