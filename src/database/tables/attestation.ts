import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** An administrator's word that a source is dead and stays so. Append-only: never changed, never deleted. It holds for one attempt. */
export const attestations = sqliteTable(
  'attestations',
  {
    id: text().primaryKey(),
    cloudId: text().notNull(),
    uniqueId: text().notNull(),
    migrationId: text().notNull(),
    attempt: integer().notNull(),
    statement: text().notNull(),
    tokenId: text().notNull(),
    at: integer({ mode: 'timestamp_ms' }).notNull(),
  },
  (table) => [index('attestations_attempt').on(table.uniqueId, table.migrationId, table.attempt)],
)
