import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** What was done or attempted with it. */
export const auditOutcomes = ['DONE', 'REPEATED', 'REFUSED', 'FAILED'] as const

/**
 * The audit trail: one row for each mutation that was sent, chained by hashes (src/workflows/audit-chain.ts). Rows are only ever added, and only at the end: triggers
 * refuse everything else. The JSON columns are text, since the hash covers them to the letter.
 */
export const auditEntries = sqliteTable(
  'audit_entries',
  {
    id: text().primaryKey(),
    /** 1, 2, 3… without a gap. */
    sequence: integer().notNull().unique(),
    at: integer({ mode: 'timestamp_ms' }).notNull(),
    /** Null where Portolan itself acted. */
    tokenId: text(),
    /** As it was called then. */
    tokenName: text(),
    role: text({ enum: ['VIEWER', 'OPERATOR', 'ADMIN'] }),
    mutation: text().notNull(),
    /** The type of the API's object it was about, such as `Migration`, and that object's row. */
    subjectType: text(),
    subjectId: text(),
    idempotencyKey: text(),
    /** JSON, with secrets withheld. */
    input: text().notNull(),
    outcome: text({ enum: auditOutcomes }).notNull(),
    /** JSON; null unless DONE. */
    answer: text(),
    /** Null where it was done or repeated. */
    errorCode: text(),
    /** Of the row before; 64 zeros in the first. */
    previousHash: text().notNull().unique(),
    hash: text().notNull().unique(),
  },
  (table) => [
    index('audit_entries_at').on(table.at),
    index('audit_entries_key').on(table.tokenId, table.idempotencyKey),
    index('audit_entries_subject').on(table.subjectType, table.subjectId),
  ],
)

/** One row: where the trail ends, signed with a key that is not in the database, so that whoever cuts the trail off can't sign the new end. */
export const auditHead = sqliteTable('audit_head', {
  id: integer().primaryKey(),
  sequence: integer().notNull(),
  hash: text().notNull(),
  signature: text().notNull(),
})
