import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** Every write that subscribers care about, in order: each control plane polls it, so a subscriber of any of them sees all. Pruned by age. */
export const changes = sqliteTable('changes', {
  sequence: integer().primaryKey({ autoIncrement: true }),
  topic: text({ enum: ['MIGRATION', 'MIGRATION_EVENT', 'MIGRATION_GROUP', 'CLOUD', 'API_TOKEN', 'RECONCILIATION'] }).notNull(),
  /** The migration's, cloud's, token's or reconciliation's id. */
  subject: text().notNull(),
  at: integer({ mode: 'timestamp_ms' }).notNull(),
})
