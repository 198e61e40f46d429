import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import { cutoverPolicies, desiredStates } from '../../domain/migration.ts'
import { groupStates } from '../../domain/migration-group.ts'
import type { MigrationRequest } from '../../domain/migration-request.ts'

/** A wave of migrations. Single writer: its workflow; mutations write `desired` and `cutoverAt`, and the state of one that was never started. */
export const migrationGroups = sqliteTable(
  'migration_groups',
  {
    id: text().primaryKey(),
    name: text().notNull(),
    state: text({ enum: groupStates }).notNull(),
    desired: text({ enum: desiredStates }).notNull(),
    cutoverPolicy: text({ enum: cutoverPolicies }).notNull(),
    /** No member cuts over before; with MANUAL, also the word that they may. Null: no time was set, no word was given. */
    cutoverAt: integer({ mode: 'timestamp_ms' }),
    /** The engine that runs it; null before it is started. */
    engineId: text(),
    createdAt: integer({ mode: 'timestamp_ms' }).notNull(),
    startedAt: integer({ mode: 'timestamp_ms' }),
    endedAt: integer({ mode: 'timestamp_ms' }),
    updatedAt: integer({ mode: 'timestamp_ms' }).notNull(),
  },
  (table) => [index('migration_groups_created').on(table.createdAt)],
)

/** A virtual machine of a group. Its state is not stored: it follows from its migration and from what it depends on (src/domain/migration-group.ts). */
export const migrationGroupMembers = sqliteTable(
  'migration_group_members',
  {
    id: text().primaryKey(),
    groupId: text().notNull(),
    /** Its place in the order of starts: after all that it depends on. */
    position: integer().notNull(),
    name: text().notNull(),
    /** Names of members of the same group. */
    dependsOn: text({ mode: 'json' }).$type<string[]>().notNull(),
    request: text({ mode: 'json' }).$type<MigrationRequest>().notNull(),
    /** Null until it is started. */
    migrationId: text(),
    /** Why it could not be started, where it could not, or not yet. */
    refusalCode: text(),
    refusalMessage: text(),
    refusalRemedy: text(),
  },
  (table) => [
    index('migration_group_members_group').on(table.groupId, table.position),
    index('migration_group_members_migration').on(table.migrationId),
  ],
)
