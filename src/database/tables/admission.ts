import { index, integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import { concurrencyScopes } from '../../domain/admission.ts'

/**
 * Who waits for a slot and who holds one, in order of arrival, for all control planes on the database. A slot is never given back by a write: whether an admitted
 * migration still copies is read from its row, so none is leaked. Rows of ended attempts are removed by whoever comes across them.
 */
export const admissions = sqliteTable(
  'admissions',
  {
    migrationId: text().notNull(),
    attempt: integer().notNull(),
    sequence: integer().notNull(),
    /** What it takes a slot of: see src/domain/admission.ts. */
    needs: text({ mode: 'json' }).$type<string[]>().notNull(),
    state: text({ enum: ['WAITING', 'ADMITTED'] }).notNull(),
    queuedAt: integer({ mode: 'timestamp_ms' }).notNull(),
    admittedAt: integer({ mode: 'timestamp_ms' }),
  },
  (table) => [primaryKey({ columns: [table.migrationId, table.attempt] }), index('admissions_sequence').on(table.sequence)],
)

/** How many may copy at once. `subject` is a cloud's or host's row id, or empty for all that have no row of their own. */
export const concurrencyLimits = sqliteTable(
  'concurrency_limits',
  {
    scope: text({ enum: concurrencyScopes }).notNull(),
    subject: text().notNull(),
    limit: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.scope, table.subject] })],
)

/** When each control plane was last there, by the database's clock: one that is gone for long holds no slots. */
export const controlPlanes = sqliteTable('control_planes', {
  engineId: text().primaryKey(),
  seenAt: integer({ mode: 'timestamp_ms' }).notNull(),
})
