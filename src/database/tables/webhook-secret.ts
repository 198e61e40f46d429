import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** What webhooks are signed with, sealed. Migrations name one, and never hold it. */
export const webhookSecrets = sqliteTable('webhook_secrets', {
  name: text().primaryKey(),
  sealed: text().notNull(),
  setAt: integer({ mode: 'timestamp_ms' }).notNull(),
})
