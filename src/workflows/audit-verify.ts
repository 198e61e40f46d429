/** Looks through the whole audit trail for the first thing that is not as it was written. Reads only. */
import { asc, gt } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { auditEntries, auditHead } from '../database/tables/audit.ts'
import type { SealKey } from '../secrets/seal.ts'
import { auditHash, auditOrigin, signPosition, type AuditPosition, type AuditRow } from './audit-chain.ts'
import { trailHolds } from './audit-witness.ts'

export interface AuditVerification {
  /** Entries that are sound, from the first on. */
  entries: number
  /** The first broken entry, or null where all is sound. */
  broken: { sequence: number; problem: string } | null
}

const pageLength = 500

/** `witness` is where the trail ended when a control plane last wrote, kept outside the database; null where there is none. */
export async function verifyAuditTrail(from: {
  database: Pick<Database, 'select'>
  sealKey: SealKey
  witness: AuditPosition | null
}): Promise<AuditVerification> {
  const { database, sealKey, witness } = from
  // Read first: entries may be added while this looks, and the trail has to reach at least this far.
  const [head] = await database.select().from(auditHead)
  let end: AuditPosition = auditOrigin
  const broken = (problem: string, sequence = end.sequence + 1): AuditVerification => ({
    entries: end.sequence,
    broken: { sequence, problem },
  })

  for (let rows = await pageAfter(database, 0); rows.length > 0; rows = await pageAfter(database, end.sequence)) {
    for (const row of rows) {
      const problem = problemOf(row, end)
      if (problem) return broken(problem)
      end = { sequence: row.sequence, hash: row.hash }
    }
  }
  if (!head)
    return end.sequence === 0 && !witness ? { entries: 0, broken: null } : broken('the signed end of the trail is gone', end.sequence)
  if (head.signature !== signPosition(sealKey, head)) return broken('the end of the trail is not signed with the seal key', head.sequence)
  if (head.sequence > end.sequence) return broken(`the trail ends here, and was written up to entry ${head.sequence}`)
  if (!(await trailHolds(database, head))) return broken('it is not the entry that was signed as the end', head.sequence)
  const [after] = await database.select().from(auditHead)
  if (after && end.sequence > after.sequence) return broken('it comes after the signed end', after.sequence + 1)
  if (witness && !(await trailHolds(database, witness)))
    return broken(
      witness.sequence > end.sequence
        ? `the trail ends here, and was written up to entry ${witness.sequence}`
        : "it is not the entry that this control plane's witness saw",
      Math.min(witness.sequence, end.sequence + 1),
    )
  return { entries: end.sequence, broken: null }
}

function pageAfter(database: Pick<Database, 'select'>, sequence: number): Promise<AuditRow[]> {
  return database
    .select()
    .from(auditEntries)
    .where(gt(auditEntries.sequence, sequence))
    .orderBy(asc(auditEntries.sequence))
    .limit(pageLength)
}

function problemOf(row: AuditRow, before: AuditPosition): string | null {
  if (row.sequence !== before.sequence + 1) return `it is missing; the next one that is there is ${row.sequence}`
  if (row.previousHash !== before.hash) return 'it does not follow from the entry before it'
  if (row.hash !== auditHash(row)) return 'its content is not what its hash was made of'
  return null
}
