import { eq } from 'drizzle-orm'
import { migrationEvents } from '../src/database/tables/migration.ts'
import { anyOf } from './any-of.ts'
import { builder } from './builder.ts'
import { connectionType } from './connection-type.ts'
import { page, pageComplexity, type RowOrder } from './connection.ts'
import { describedEnum } from './described-enum.ts'
import { Migration } from './migration.ts'
import { MigrationPhaseEnum } from './migration-enums.ts'
import { rowNode } from './row-node.ts'

type Row = typeof migrationEvents.$inferSelect

const EventKind = describedEnum<Row['kind']>('MigrationEventKind', 'What kind of thing happened.', {
  PHASE_STARTED: 'A phase began.',
  PHASE_ENDED: 'A phase was done.',
  PHASE_FAILED: 'A phase failed; the message says why, and whether it is tried again.',
  ROUND_ENDED: 'A round of the copy was done.',
  STATE_CHANGED: 'The state of the migration changed.',
  NOTICE: 'Something that an operator wants to know.',
  UNDO: 'Something was taken back.',
})

export const MigrationEvent = rowNode('MigrationEvent', migrationEvents)
MigrationEvent.implement({
  description: 'Something that happened in a migration. Events are only ever added.',
  fields: (t) => ({
    sequence: t.exposeInt('sequence', { description: 'Grows with each event of its migration.' }),
    attempt: t.exposeInt('attempt', { description: 'The attempt it belongs to.' }),
    kind: t.expose('kind', { type: EventKind, description: 'What kind of thing happened.' }),
    phase: t.expose('phase', {
      type: MigrationPhaseEnum,
      nullable: true,
      description: 'The phase it happened in; null where it belongs to none.',
    }),
    message: t.exposeString('message', { description: 'What happened: one sentence.' }),
    at: t.expose('at', { type: 'DateTime', description: 'When it happened.' }),
    migration: t.field({ type: Migration, description: 'The migration it happened in.', resolve: (event) => event.migrationId }),
  }),
})

const MigrationEventConnection = connectionType('MigrationEvent', 'events', MigrationEvent)

const orders = {
  OLDEST_FIRST: { column: migrationEvents.sequence, direction: 'ASC' },
  NEWEST_FIRST: { column: migrationEvents.sequence, direction: 'DESC' },
} satisfies Record<string, RowOrder>

const MigrationEventOrder = describedEnum<keyof typeof orders>('MigrationEventOrder', 'Orders of events.', {
  OLDEST_FIRST: 'As they happened.',
  NEWEST_FIRST: 'The last one first.',
})

const MigrationEventFilter = builder.inputType('MigrationEventFilter', {
  description: 'Which events: those that meet every condition given.',
  fields: (t) => ({
    kinds: t.field({ type: [EventKind], description: 'Of any of these kinds.' }),
    phases: t.field({ type: [MigrationPhaseEnum], description: 'In any of these phases.' }),
  }),
})

builder.objectField(Migration, 'events', (t) =>
  t.connection(
    {
      type: MigrationEvent,
      description: 'What happened, in order.',
      complexity: pageComplexity,
      args: {
        filter: t.arg({ type: MigrationEventFilter, description: 'Leave away for all.' }),
        orderBy: t.arg({
          type: MigrationEventOrder,
          defaultValue: 'OLDEST_FIRST',
          required: true,
          description: 'As they happened unless said otherwise.',
        }),
      },
      resolve: (migration, args, { db }) =>
        page<Row>(db, migrationEvents, {
          args,
          where: [
            eq(migrationEvents.migrationId, migration.id),
            anyOf(migrationEvents.kind, args.filter?.kinds, ['filter', 'kinds']),
            anyOf(migrationEvents.phase, args.filter?.phases, ['filter', 'phases']),
          ],
          order: orders[args.orderBy],
          orderValue: (row) => row.sequence,
        }),
    },
    MigrationEventConnection,
  ),
)
