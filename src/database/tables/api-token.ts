import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** Only the hash of a token is stored. A revoked one stays, since the audit trail names it. */
export const apiTokens = sqliteTable('api_tokens', {
  id: text().primaryKey(),
  name: text().notNull(),
  role: text({ enum: ['VIEWER', 'OPERATOR', 'ADMIN'] }).notNull(),
  hash: text().notNull().unique(),
  createdAt: integer({ mode: 'timestamp_ms' }).notNull(),
  /** Null while it may be used. */
  revokedAt: integer({ mode: 'timestamp_ms' }),
})
