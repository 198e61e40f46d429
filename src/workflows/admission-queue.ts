import { and, eq, ne, sql } from 'drizzle-orm'
import type { Transaction } from '../database/client.ts'
import { admissions } from '../database/tables/admission.ts'
import { needsOf } from './admission-needs.ts'

/** Puts an attempt of a stored migration at the end of the queue for slots, unless it is in it. Its earlier attempts leave. */
export async function joinQueue(tx: Transaction, migrationId: string, attempt: number): Promise<void> {
  await tx
    .insert(admissions)
    .values({
      migrationId,
      attempt,
      sequence: sql<number>`(select coalesce(max(${admissions.sequence}), 0) + 1 from ${admissions})`,
      needs: await needsOf(tx, migrationId),
      state: 'WAITING',
      queuedAt: new Date(),
    })
    .onConflictDoNothing()
  await tx.delete(admissions).where(and(eq(admissions.migrationId, migrationId), ne(admissions.attempt, attempt)))
}
