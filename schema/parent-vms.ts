import { eq, ne } from 'drizzle-orm'
import { parentVms } from '../src/database/tables/parent-vm.ts'
import { PortolanError } from '../src/domain/errors.ts'
import { anyOf } from './any-of.ts'
import { builder } from './builder.ts'
import { connectionType } from './connection-type.ts'
import { page, pageComplexity } from './connection.ts'
import type { SchemaDatabase } from './context.ts'
import { rowIdOf } from './global-id.ts'
import { ParentVm, ParentVmStateEnum } from './parent-vm.ts'
import { watch } from './watch.ts'

const ParentVmConnection = connectionType('ParentVm', 'parent VMs', ParentVm)

builder.queryField('parentVms', (t) =>
  t.connection(
    {
      type: ParentVm,
      authScopes: { viewer: true },
      description: 'The parent VMs, by name.',
      complexity: pageComplexity,
      args: {
        states: t.arg({
          type: [ParentVmStateEnum],
          description: 'Only those in one of these states; all but DELETED where it is left away.',
        }),
      },
      resolve: (_, args, { db }) =>
        page<typeof parentVms.$inferSelect>(db, parentVms, {
          args,
          where: [anyOf(parentVms.state, args.states, ['states']) ?? ne(parentVms.state, 'DELETED')],
          order: { column: parentVms.name, direction: 'ASC' },
          orderValue: ({ name }) => name,
        }),
    },
    ParentVmConnection,
  ),
)

builder.queryField('parentVm', (t) =>
  t.field({
    type: ParentVm,
    nullable: true,
    authScopes: { viewer: true },
    description: 'The parent VM with this id, or null where there is none.',
    args: { id: t.arg.id({ required: true, description: "A parent VM's `id`." }) },
    resolve: (_, { id }) => rowIdOf('ParentVm', id, ['id']),
  }),
)

builder.subscriptionField('parentVmChanges', (t) =>
  t.field({
    type: ParentVm,
    authScopes: { viewer: true },
    description:
      'The parent VM as it is now, and again whenever it or a copy of it changes. Completes once it is READY, FAILED or DELETED: nothing more is done with it then.',
    args: { parentVmId: t.arg.id({ required: true, description: "The parent VM's `id`." }) },
    subscribe: async (_, { parentVmId }, { db, changes }) => {
      const id = rowIdOf('ParentVm', parentVmId, ['parentVmId'])
      await findParentVm(db, id)
      return watch(changes, { topics: ['PARENT_VM'], subject: id }, async () => {
        const parent = await findParentVm(db, id)
        return { events: [parent], last: ['READY', 'FAILED', 'DELETED'].includes(parent.state) }
      })
    },
    resolve: (parent) => parent,
  }),
)

/** @throws PortolanError NOT_FOUND */
async function findParentVm(db: SchemaDatabase, id: string) {
  const [parent] = await db.select().from(parentVms).where(eq(parentVms.id, id))
  if (parent) return parent
  throw new PortolanError('NOT_FOUND', 'There is no parent VM with this id.', {
    retryable: false,
    remedy: 'Read the ids of the parent VMs that there are from `parentVms`.',
    path: ['parentVmId'],
  })
}
