import { clouds } from '../src/database/tables/cloud.ts'
import { anyOf } from './any-of.ts'
import { builder } from './builder.ts'
import { connectionType } from './connection-type.ts'
import { page, pageComplexity, type RowOrder } from './connection.ts'
import { containing } from './containing.ts'
import { describedEnum } from './described-enum.ts'
import { limits } from './limits.ts'
import { rowNode } from './row-node.ts'

type CloudRow = typeof clouds.$inferSelect

const CloudState = describedEnum<CloudRow['state']>('CloudState', 'How a cloud stands.', {
  CONNECTED: 'It answered the last call.',
  UNREACHABLE:
    'It did not answer the last call; `problem` says more. What is shown of it is what it last said, but for the power of its virtual machines: that is UNKNOWN.',
  DISCONNECTED: 'It was disconnected; what is shown of it is what it last said.',
})

export const Cloud = rowNode('Cloud', clouds)
Cloud.implement({
  description: 'A connected account at a provider. Its credentials are sealed, and no field shows them.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'Chosen at `connectCloud`; unique.' }),
    state: t.expose('state', { type: CloudState, description: 'How it stands.' }),
    problem: t.exposeString('problem', { nullable: true, description: 'One sentence on what is wrong, or null.' }),
    capabilities: t.exposeStringList('capabilities', {
      description:
        'What this connection can do, as paths in the provider contract such as `records.put`. What is absent, the provider can not do.',
    }),
    connectedAt: t.expose('connectedAt', { type: 'DateTime', description: 'When it was connected.' }),
    refreshedAt: t.expose('refreshedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When its topology was last read completely; null before the first time.',
    }),
  }),
})

const CloudConnection = connectionType('Cloud', 'clouds', Cloud)

const orders = {
  NAME_ASC: { column: clouds.name, direction: 'ASC' },
  NAME_DESC: { column: clouds.name, direction: 'DESC' },
  CONNECTED_AT_DESC: { column: clouds.connectedAt, direction: 'DESC' },
} satisfies Record<string, RowOrder>

const CloudOrder = describedEnum<keyof typeof orders>('CloudOrder', 'Orders of clouds.', {
  NAME_ASC: 'By name, from A to Z.',
  NAME_DESC: 'By name, from Z to A.',
  CONNECTED_AT_DESC: 'Last connected first.',
})

const CloudFilter = builder.inputType('CloudFilter', {
  description: 'Which clouds: those that meet every condition given.',
  fields: (t) => ({
    nameContains: t.string({ description: 'Part of the name, upper or lower case.' }),
    states: t.field({ type: [CloudState], description: 'Any of these states.' }),
    pluginIds: t.stringList({ description: `Any of these plugins' short names, ${limits.filterValues} different ones at most.` }),
  }),
})

builder.queryField('clouds', (t) =>
  t.connection(
    {
      type: Cloud,
      authScopes: { viewer: true },
      description: 'The clouds that are or were connected.',
      complexity: pageComplexity,
      args: {
        filter: t.arg({ type: CloudFilter, description: 'Leave away for all.' }),
        orderBy: t.arg({ type: CloudOrder, defaultValue: 'NAME_ASC', required: true, description: 'By name unless said otherwise.' }),
      },
      resolve: (_, args, { db }) =>
        page<CloudRow>(db, clouds, {
          args,
          where: [
            containing(clouds.name, args.filter?.nameContains),
            anyOf(clouds.state, args.filter?.states, ['filter', 'states']),
            anyOf(clouds.pluginId, args.filter?.pluginIds, ['filter', 'pluginIds']),
          ],
          order: orders[args.orderBy],
          orderValue: (row) => (args.orderBy === 'CONNECTED_AT_DESC' ? row.connectedAt.getTime() : row.name),
        }),
    },
    CloudConnection,
  ),
)
