import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import { migrationTestStates } from '../../domain/migration-test.ts'

/** Test boots of migrations' copies. The mutation inserts a PENDING row; the migration's workflow does the rest. */
export const migrationTests = sqliteTable(
  'migration_tests',
  {
    id: text().primaryKey(),
    migrationId: text().notNull(),
    attempt: integer().notNull(),
    state: text({ enum: migrationTestStates }).notNull(),
    /** How long the source was frozen for a copy of one moment, in milliseconds. */
    frozenMs: integer(),
    /** From the boot to the passed health check, in milliseconds. */
    healthyAfterMs: integer(),
    /** The newest of what the guest wrote to its serial console. */
    console: text(),
    /** One sentence; null unless FAILED. */
    problem: text(),
    requestedAt: integer({ mode: 'timestamp_ms' }).notNull(),
    endedAt: integer({ mode: 'timestamp_ms' }),
  },
  (table) => [index('migration_tests_migration').on(table.migrationId, table.requestedAt)],
)
