/**
 * How the entries of the audit trail hang together: each one's hash is the SHA-256 of its canonical form, which holds the hash of the entry before. The canonical form is a JSON
 * array of all columns in a fixed order, JSON columns as the text that is stored. Where the trail ends is signed with the seal key (HMAC-SHA256).
 */
import { createHash } from 'node:crypto'
import type { auditEntries } from '../database/tables/audit.ts'
import type { SealKey } from '../secrets/seal.ts'

export type AuditRow = typeof auditEntries.$inferSelect

/** An end of the trail, or a place where it once ended. */
export interface AuditPosition {
  sequence: number
  hash: string
}

/** What comes before the first entry. */
export const auditOrigin: AuditPosition = { sequence: 0, hash: '0'.repeat(64) }

/** Lower-case hex, 64 digits. */
export function auditHash(row: Omit<AuditRow, 'hash'>): string {
  const canonical = [
    'portolan audit 1',
    row.previousHash,
    row.sequence,
    row.id,
    row.at.getTime(),
    row.tokenId,
    row.tokenName,
    row.role,
    row.mutation,
    row.subjectType,
    row.subjectId,
    row.idempotencyKey,
    row.input,
    row.outcome,
    row.answer,
    row.errorCode,
  ]
  return createHash('sha256').update(JSON.stringify(canonical)).digest('hex')
}

export function signPosition(sealKey: SealKey, { sequence, hash }: AuditPosition): string {
  return sealKey.sign(`${sequence} ${hash}`, 'audit-head')
}
