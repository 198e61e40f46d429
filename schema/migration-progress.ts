import { eq } from 'drizzle-orm'
import { migrations } from '../src/database/tables/migration.ts'
import { PortolanError } from '../src/domain/errors.ts'
import { builder } from './builder.ts'
import type { SchemaDatabase } from './context.ts'
import { rowIdOf } from './global-id.ts'
import { Migration } from './migration.ts'
import { watch } from './watch.ts'

builder.subscriptionField('migrationProgress', (t) =>
  t.field({
    type: Migration,
    authScopes: { viewer: true },
    description:
      'The migration as it is now, and again whenever anything of it changes, at most ten times a second. Completes when the migration has ended.',
    args: { migrationId: t.arg.id({ required: true, description: "The migration's `id`." }) },
    subscribe: async (_, { migrationId }, { db, changes }) => {
      const id = rowIdOf('Migration', migrationId, ['migrationId'])
      await findMigration(db, id)
      return watch(changes, { topics: ['MIGRATION'], subject: id }, async () => {
        const migration = await findMigration(db, id)
        return { events: [migration], last: migration.endedAt !== null }
      })
    },
    resolve: (migration) => migration,
  }),
)

/** @throws PortolanError NOT_FOUND */
export async function findMigration(db: SchemaDatabase, id: string) {
  const [migration] = await db.select().from(migrations).where(eq(migrations.id, id))
  if (migration) return migration
  throw new PortolanError('NOT_FOUND', 'There is no migration with this id.', {
    retryable: false,
    remedy: 'Read the ids of the migrations that there are from `migrations`.',
    path: ['migrationId'],
  })
}
