import { integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** The first answer to a mutation, kept so that the second is the same. */
export const idempotencyKeys = sqliteTable(
  'idempotency_keys',
  {
    tokenId: text().notNull(),
    key: text().notNull(),
    mutation: text().notNull(),
    /** SHA-256 of the canonical input. */
    inputHash: text().notNull(),
    answer: text({ mode: 'json' }).$type<Record<string, string>>(),
    createdAt: integer({ mode: 'timestamp_ms' }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.tokenId, table.key] })],
)
