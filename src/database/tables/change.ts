import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** Every write that subscribers care about, in order: each control plane polls it, so a subscriber of any of them sees all. Pruned by age. */
export const changes = sqliteTable('changes', {
  sequence: integer().primaryKey({ autoIncrement: true }),
  topic: text({
    enum: ['MIGRATION', 'MIGRATION_EVENT', 'MIGRATION_GROUP', 'CLOUD', 'API_TOKEN', 'RECONCILIATION', 'PARENT_VM', 'JOB'],
  }).notNull(),
  /** The id of the migration, cloud, token, reconciliation, parent VM or job. */
  subject: text().notNull(),
  at: integer({ mode: 'timestamp_ms' }).notNull(),
})
