import { and, eq, gt } from 'drizzle-orm'
import { migrationEvents } from '../src/database/tables/migration.ts'
import { builder } from './builder.ts'
import type { SchemaDatabase } from './context.ts'
import { MigrationEvent } from './event.ts'
import { rowIdOf } from './global-id.ts'
import { findMigration } from './migration-progress.ts'
import { watch } from './watch.ts'

const batchLength = 100

builder.subscriptionField('migrationEvents', (t) =>
  t.field({
    type: MigrationEvent,
    authScopes: { viewer: true },
    description:
      'Each event of a migration once and in order: first all that happened so far, then each new one. Completes when the migration has ended.',
    args: {
      migrationId: t.arg.id({ required: true, description: "The migration's `id`." }),
      afterSequence: t.arg.int({
        description: 'Only events after this one: for a client that was away and knows the `sequence` of the last one it saw.',
      }),
    },
    subscribe: async (_, { migrationId, afterSequence }, { db, changes }) => {
      const id = rowIdOf('Migration', migrationId, ['migrationId'])
      await findMigration(db, id)
      let seen = afterSequence ?? -1
      return watch(changes, { topics: ['MIGRATION', 'MIGRATION_EVENT'], subject: id }, async () => {
        // Read first: a migration ends after its last event, so an end seen here means that the events below are complete.
        const { endedAt } = await findMigration(db, id)
        const events = await eventsAfter(db, id, seen)
        seen = events.at(-1)?.sequence ?? seen
        return { events, last: endedAt !== null }
      })
    },
    resolve: (event) => event,
  }),
)

async function eventsAfter(db: SchemaDatabase, migrationId: string, sequence: number) {
  const events: (typeof migrationEvents.$inferSelect)[] = []
  for (let after = sequence, length = batchLength; length === batchLength;) {
    const batch = await db
      .select()
      .from(migrationEvents)
      .where(and(eq(migrationEvents.migrationId, migrationId), gt(migrationEvents.sequence, after)))
      .orderBy(migrationEvents.sequence)
      .limit(batchLength)
    events.push(...batch)
    length = batch.length
    after = batch.at(-1)?.sequence ?? after
  }
  return events
}
