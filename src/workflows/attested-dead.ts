import { and, eq } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { attestations } from '../database/tables/attestation.ts'

/** Whether an administrator attested that the source of this attempt is dead (see attestation-operations.ts). */
export async function attestedDead(database: Pick<Database, '$count'>, { id, attempt }: { id: string; attempt: number }): Promise<boolean> {
  return (await database.$count(attestations, and(eq(attestations.migrationId, id), eq(attestations.attempt, attempt)))) > 0
}
