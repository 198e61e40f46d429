import { encodeGlobalID } from '@pothos/plugin-relay'
import { eq } from 'drizzle-orm'
import { reconciliations } from '../src/database/tables/reconciliation.ts'
import { anyOf } from './any-of.ts'
import { builder } from './builder.ts'
import { Cloud } from './cloud.ts'
import { connectionType } from './connection-type.ts'
import { page, pageComplexity, type RowOrder } from './connection.ts'
import { describedEnum } from './described-enum.ts'
import { rowIdOf } from './global-id.ts'
import { rowNode } from './row-node.ts'
import { VerdictEnum, VerdictRowEnum } from './verdict-enums.ts'

type Row = typeof reconciliations.$inferSelect

const ReconciliationState = describedEnum<Row['state']>('ReconciliationState', 'How far a reconciliation is.', {
  PENDING: 'It was asked for, and works.',
  WAITING: 'It waits for a site or for a migration, as `problem` says, and looks again by itself.',
  DONE: 'All that is safe was done, and nothing is left.',
  FAILED: 'Nothing safe is left that could be done by itself; `problem` says why.',
})

export const Reconciliation = rowNode('Reconciliation', reconciliations)
Reconciliation.implement({
  description: 'What was made of one attempt to move one virtual machine after a fault. Asking again takes the same one up.',
  fields: (t) => ({
    cloud: t.field({ type: Cloud, description: 'The destination, whose records decide.', resolve: ({ cloudId }) => cloudId }),
    migrationId: t.id({
      description: 'The migration, known to this control plane or not.',
      resolve: ({ migrationId }) => encodeGlobalID('Migration', migrationId),
    }),
    attempt: t.exposeInt('attempt', { description: 'The attempt.' }),
    uniqueId: t.exposeString('uniqueId', { description: "The machine's immutable unique id." }),
    name: t.exposeString('name', { nullable: true, description: 'Its name when this was asked for; null where it could not be read.' }),
    state: t.expose('state', { type: ReconciliationState, description: 'How far it is.' }),
    verdict: t.expose('verdict', { type: VerdictEnum, description: 'The verdict at the last look.' }),
    row: t.expose('row', { type: VerdictRowEnum, description: 'The row of the table that decided at the last look.' }),
    problem: t.exposeString('problem', {
      nullable: true,
      description: 'What it waits for, or why it failed; null where nothing is in its way.',
    }),
    done: t.exposeStringList('done', { description: 'What was done, in order: one sentence each.' }),
    run: t.exposeInt('run', { description: 'Grows each time that it is taken up again after its end.' }),
    byItself: t.boolean({
      description: 'Whether the control plane took it up by itself, since a source returned.',
      resolve: ({ tokenId }) => tokenId === null,
    }),
    createdAt: t.expose('createdAt', { type: 'DateTime', description: 'When it was first asked for.' }),
    updatedAt: t.expose('updatedAt', { type: 'DateTime', description: 'When it last looked or did something.' }),
    endedAt: t.expose('endedAt', { type: 'DateTime', nullable: true, description: 'When it ended; null before.' }),
  }),
})

const ReconciliationConnection = connectionType('Reconciliation', 'reconciliations', Reconciliation)

const orders = {
  UPDATED_AT_DESC: { column: reconciliations.updatedAt, direction: 'DESC' },
  CREATED_AT_ASC: { column: reconciliations.createdAt, direction: 'ASC' },
} satisfies Record<string, RowOrder>

const ReconciliationOrder = describedEnum<keyof typeof orders>('ReconciliationOrder', 'Orders of reconciliations.', {
  UPDATED_AT_DESC: 'Last changed first.',
  CREATED_AT_ASC: 'Oldest first.',
})

const ReconciliationFilter = builder.inputType('ReconciliationFilter', {
  description: 'Which reconciliations: those that meet every condition given.',
  fields: (t) => ({
    states: t.field({ type: [ReconciliationState], description: 'In any of these states.' }),
    cloudId: t.id({ description: 'By the records of this cloud.' }),
  }),
})

builder.queryField('reconciliations', (t) =>
  t.connection(
    {
      type: Reconciliation,
      authScopes: { viewer: true },
      description: 'All reconciliations; those that wait for somebody are the ones in the state WAITING.',
      complexity: pageComplexity,
      args: {
        filter: t.arg({ type: ReconciliationFilter, description: 'Leave away for all.' }),
        orderBy: t.arg({
          type: ReconciliationOrder,
          defaultValue: 'UPDATED_AT_DESC',
          required: true,
          description: 'Last changed first unless said otherwise.',
        }),
      },
      resolve: (_, args, { db }) =>
        page<Row>(db, reconciliations, {
          args,
          where: [
            anyOf(reconciliations.state, args.filter?.states, ['filter', 'states']),
            args.filter?.cloudId ? eq(reconciliations.cloudId, rowIdOf('Cloud', args.filter.cloudId, ['filter', 'cloudId'])) : undefined,
          ],
          order: orders[args.orderBy],
          orderValue: (row) => (args.orderBy === 'UPDATED_AT_DESC' ? row.updatedAt : row.createdAt).getTime(),
        }),
    },
    ReconciliationConnection,
  ),
)
