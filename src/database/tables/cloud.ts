import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'

/** A connected account at a provider. `sealedOptions` holds credentials: sealed (src/secrets), never selected by the schema. */
export const clouds = sqliteTable('clouds', {
  id: text().primaryKey(),
  name: text().notNull().unique(),
  pluginId: text().notNull(),
  sealedOptions: text().notNull(),
  state: text({ enum: ['CONNECTED', 'UNREACHABLE', 'DISCONNECTED'] }).notNull(),
  /** The last failure's sentence, or null. */
  problem: text(),
  capabilities: text({ mode: 'json' }).$type<string[]>().notNull(),
  connectedAt: integer({ mode: 'timestamp_ms' }).notNull(),
  refreshedAt: integer({ mode: 'timestamp_ms' }),
})
