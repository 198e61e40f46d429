import { and, asc, eq, inArray } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { migrationTests } from '../database/tables/migration-test.ts'

export type MigrationTestRow = typeof migrationTests.$inferSelect
export type MigrationTestPatch = Partial<Omit<MigrationTestRow, 'id' | 'migrationId' | 'attempt'>>

export interface MigrationTestStore {
  /** PENDING and RUNNING ones of an attempt, oldest first. */
  open(of: { id: string; attempt: number }): Promise<MigrationTestRow[]>
  /** Answers the row as it is then. */
  write(test: MigrationTestRow, patch: MigrationTestPatch): Promise<MigrationTestRow>
}

export function createMigrationTestStore(database: Database): MigrationTestStore {
  return {
    open: ({ id, attempt }) =>
      database
        .select()
        .from(migrationTests)
        .where(
          and(
            eq(migrationTests.migrationId, id),
            eq(migrationTests.attempt, attempt),
            inArray(migrationTests.state, ['PENDING', 'RUNNING']),
          ),
        )
        .orderBy(asc(migrationTests.requestedAt)),
    async write(test, patch) {
      const { id, migrationId } = test
      await database.write(
        (orm) => [orm.update(migrationTests).set(patch).where(eq(migrationTests.id, id))],
        [{ topic: 'MIGRATION', subject: migrationId }],
      )
      return { ...test, ...patch }
    },
  }
}
