import { eq, or } from 'drizzle-orm'
import { migrations } from '../src/database/tables/migration.ts'
import { anyOf } from './any-of.ts'
import { builder } from './builder.ts'
import { connectionType } from './connection-type.ts'
import { page, pageComplexity, type RowOrder } from './connection.ts'
import { describedEnum } from './described-enum.ts'
import { rowIdOf } from './global-id.ts'
import { Migration } from './migration.ts'
import { MigrationStateEnum } from './migration-enums.ts'

type Row = typeof migrations.$inferSelect

const MigrationConnection = connectionType('Migration', 'migrations', Migration)

const orders = {
  CREATED_AT_DESC: { column: migrations.createdAt, direction: 'DESC' },
  CREATED_AT_ASC: { column: migrations.createdAt, direction: 'ASC' },
  UPDATED_AT_DESC: { column: migrations.updatedAt, direction: 'DESC' },
} satisfies Record<string, RowOrder>

const MigrationOrder = describedEnum<keyof typeof orders>('MigrationOrder', 'Orders of migrations.', {
  CREATED_AT_DESC: 'Newest first.',
  CREATED_AT_ASC: 'Oldest first.',
  UPDATED_AT_DESC: 'Last changed first.',
})

const MigrationFilter = builder.inputType('MigrationFilter', {
  description: 'Which migrations: those that meet every condition given.',
  fields: (t) => ({
    states: t.field({ type: [MigrationStateEnum], description: 'In any of these states.' }),
    cloudId: t.id({ description: 'From or to this cloud.' }),
    sourceVirtualMachineId: t.id({ description: 'Of this virtual machine.' }),
  }),
})

builder.queryField('migrations', (t) =>
  t.connection(
    {
      type: Migration,
      authScopes: { viewer: true },
      description: 'All migrations.',
      complexity: pageComplexity,
      args: {
        filter: t.arg({ type: MigrationFilter, description: 'Leave away for all.' }),
        orderBy: t.arg({
          type: MigrationOrder,
          defaultValue: 'CREATED_AT_DESC',
          required: true,
          description: 'Newest first unless said otherwise.',
        }),
      },
      resolve: (_, args, { db }) => {
        const { filter } = args
        const cloudId = filter?.cloudId ? rowIdOf('Cloud', filter.cloudId, ['filter', 'cloudId']) : undefined
        return page<Row>(db, migrations, {
          args,
          where: [
            anyOf(migrations.state, filter?.states, ['filter', 'states']),
            cloudId ? or(eq(migrations.sourceCloudId, cloudId), eq(migrations.destinationCloudId, cloudId)) : undefined,
            filter?.sourceVirtualMachineId
              ? eq(
                  migrations.sourceVirtualMachineId,
                  rowIdOf('VirtualMachine', filter.sourceVirtualMachineId, ['filter', 'sourceVirtualMachineId']),
                )
              : undefined,
          ],
          order: orders[args.orderBy],
          orderValue: (row) => (args.orderBy === 'UPDATED_AT_DESC' ? row.updatedAt : row.createdAt).getTime(),
        })
      },
    },
    MigrationConnection,
  ),
)

builder.queryField('migration', (t) =>
  t.field({
    type: Migration,
    nullable: true,
    authScopes: { viewer: true },
    description: 'The migration with this id, or null where there is none.',
    args: { id: t.arg.id({ required: true, description: "A migration's `id`." }) },
    resolve: (_, { id }) => rowIdOf('Migration', id, ['id']),
  }),
)
