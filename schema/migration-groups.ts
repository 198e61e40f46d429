import { migrationGroups } from '../src/database/tables/migration-group.ts'
import { PortolanError } from '../src/domain/errors.ts'
import { isGroupEnded } from '../src/domain/migration-group.ts'
import { readGroup } from '../src/workflows/group-facts.ts'
import { anyOf } from './any-of.ts'
import { builder } from './builder.ts'
import { connectionType } from './connection-type.ts'
import { page, pageComplexity } from './connection.ts'
import { rowIdOf } from './global-id.ts'
import { GroupStateEnum, MigrationGroup } from './migration-group.ts'
import { watch } from './watch.ts'

const MigrationGroupConnection = connectionType('MigrationGroup', 'migration groups', MigrationGroup)

builder.queryField('migrationGroups', (t) =>
  t.connection(
    {
      type: MigrationGroup,
      authScopes: { viewer: true },
      description: 'All migration groups, newest first.',
      complexity: pageComplexity,
      args: { states: t.arg({ type: [GroupStateEnum], description: 'Only those in one of these states.' }) },
      resolve: (_, args, { db }) =>
        page<typeof migrationGroups.$inferSelect>(db, migrationGroups, {
          args,
          where: [anyOf(migrationGroups.state, args.states, ['states'])],
          order: { column: migrationGroups.createdAt, direction: 'DESC' },
          orderValue: ({ createdAt }) => createdAt.getTime(),
        }),
    },
    MigrationGroupConnection,
  ),
)

builder.queryField('migrationGroup', (t) =>
  t.field({
    type: MigrationGroup,
    nullable: true,
    authScopes: { viewer: true },
    description: 'The migration group with this id, or null where there is none.',
    args: { id: t.arg.id({ required: true, description: "A migration group's `id`." }) },
    resolve: (_, { id }) => rowIdOf('MigrationGroup', id, ['id']),
  }),
)

builder.subscriptionField('migrationGroupChanges', (t) =>
  t.field({
    type: MigrationGroup,
    authScopes: { viewer: true },
    description:
      'The group as it is now, and again whenever it or the migration of a member changes, at most ten times a second for each migration. Completes when the group has ended.',
    args: { migrationGroupId: t.arg.id({ required: true, description: "The migration group's `id`." }) },
    subscribe: (_, { migrationGroupId }, { db, changes }) => {
      const id = rowIdOf('MigrationGroup', migrationGroupId, ['migrationGroupId'])
      let last = ''
      return watch(changes, { topics: ['MIGRATION_GROUP', 'MIGRATION'] }, async () => {
        const found = await readGroup(db, id)
        if (!found) throw notFound()
        const { group, members } = found
        // All migrations are listened to, so most that is heard is of others.
        const now = JSON.stringify([group, members.map(({ state, migration }) => [state, migration?.updatedAt])])
        const changed = now !== last
        last = now
        return { events: changed ? [group] : [], last: isGroupEnded(group.state) }
      })
    },
    resolve: (group) => group,
  }),
)

function notFound(): PortolanError {
  return new PortolanError('NOT_FOUND', 'There is no migration group with this id.', {
    retryable: false,
    remedy: 'Read the ids of the groups that there are from `migrationGroups`.',
    path: ['migrationGroupId'],
  })
}
