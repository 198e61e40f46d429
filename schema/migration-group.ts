import { eq } from 'drizzle-orm'
import { resolveArrayConnection } from '@pothos/plugin-relay'
import { migrationGroupMembers, migrationGroups } from '../src/database/tables/migration-group.ts'
import { isTriedAgain, memberStates, type GroupState, type MemberState } from '../src/domain/migration-group.ts'
import { errorCodes } from '../src/domain/errors.ts'
import { readGroup, type Member } from '../src/workflows/group-facts.ts'
import { builder } from './builder.ts'
import { connectionType } from './connection-type.ts'
import { checkPageSizes, pageComplexity } from './connection.ts'
import type { SchemaDatabase } from './context.ts'
import { describedEnum } from './described-enum.ts'
import { ErrorInterface, errorValue } from './errors.ts'
import { limits } from './limits.ts'
import { CutoverPolicyEnum, DesiredStateEnum } from './migration-enums.ts'
import { Migration } from './migration.ts'
import { rowNode } from './row-node.ts'
import { VirtualMachine } from './virtual-machine.ts'

export const GroupStateEnum = describedEnum<GroupState>(
  'MigrationGroupState',
  'The life of a group. The last three are ends; a COMPLETED or FAILED group runs again once a member is retried.',
  {
    CREATED: 'It was stored, and nothing is moved before `startMigrationGroup`.',
    RUNNING: 'Its members are under way.',
    PAUSED: 'An operator paused it: no member is started, and those that can stand still do.',
    COMPLETED: 'All members were completed.',
    FAILED: 'All members have ended, and some were not completed.',
    CANCELLED: 'An operator cancelled it; members that were completed before stay so.',
  },
)

const MemberStateEnum = describedEnum<MemberState>('MigrationGroupMemberState', 'What a member of a group is at.', {
  PLANNED: 'The group was not started.',
  WAITING_FOR_SLOT: 'It waits for its turn under the concurrency limits, or for another migration of its machine to end: see `refusal`.',
  RUNNING: 'Its migration works.',
  PAUSED: 'Its migration is paused.',
  WAITING_FOR_DEPENDENCY: 'It could cut over, and waits until all that it depends on are COMPLETED; meanwhile its copy is kept fresh.',
  READY_TO_CUT_OVER: 'It waits for the word of its operator, or for the time that was set, and its copy is kept fresh.',
  COMPLETED: 'It was moved.',
  FAILED: 'It could not be started, or its migration failed; the source goes on.',
  CANCELLED: 'An operator cancelled it; the source goes on.',
  ROLLED_BACK: 'It was moved, and an operator took it back to the source.',
  STOPPED_BY_DEPENDENCY: 'It was not started, or was cancelled, since one that it depends on was not completed; the source goes on.',
})

const MigrationGroupMember = builder.objectRef<Member>('MigrationGroupMember').implement({
  description: 'A virtual machine of a group.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'Unique in the group.' }),
    dependsOn: t.field({
      type: ['String'],
      description: 'Names of the members that have to be COMPLETED before this one cuts over.',
      resolve: ({ dependsOn }) => dependsOn,
    }),
    state: t.field({ type: MemberStateEnum, description: 'What it is at.', resolve: ({ state }) => state }),
    awaits: t.field({
      type: ['String'],
      description: 'Those of `dependsOn` that are not COMPLETED.',
      resolve: ({ awaits }) => [...awaits],
    }),
    stoppedBy: t.exposeString('stoppedBy', {
      nullable: true,
      description: 'The first of `dependsOn` that ended without being completed; null where there is none.',
    }),
    source: t.field({
      type: VirtualMachine,
      nullable: true,
      description: 'What it moves; null where its cloud is connected no longer.',
      resolve: ({ request }) => request.sourceVirtualMachineId,
    }),
    migration: t.field({
      type: Migration,
      nullable: true,
      description: 'Its migration, with progress and problem; null until it is started.',
      resolve: ({ migrationId }) => migrationId,
    }),
    refusal: t.field({
      type: ErrorInterface,
      nullable: true,
      description:
        'Why it could not be started; null where it could, or was not tried. Where it is retryable, it is tried again without being asked. Errors after its start are at `migration`.',
      resolve: ({ refusalCode, refusalMessage, refusalRemedy }) =>
        refusalCode === null
          ? null
          : errorValue({
              code: errorCodes.find((code) => code === refusalCode) ?? 'INTERNAL',
              message: refusalMessage ?? '',
              retryable: isTriedAgain(refusalCode),
              remedy: refusalRemedy ?? '',
              path: [],
            }),
    }),
  }),
})

const MemberCount = builder.objectRef<{ state: MemberState; count: number }>('MigrationGroupMemberCount').implement({
  description: 'How many members are at something.',
  fields: (t) => ({
    state: t.expose('state', { type: MemberStateEnum, description: 'What they are at.' }),
    count: t.exposeInt('count', { description: 'How many; at least one.' }),
  }),
})

export const MigrationGroup = rowNode('MigrationGroup', migrationGroups)
const MemberConnection = connectionType('MigrationGroupMember', 'members', MigrationGroupMember)

MigrationGroup.implement({
  description:
    'Virtual machines that are moved together. Members copy as soon as there are slots; each cuts over once all that it depends on were moved. One that fails stops those that depend on it, and nobody else.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'For people; need not be unique.' }),
    state: t.expose('state', { type: GroupStateEnum, description: 'Its life as a whole.' }),
    desired: t.expose('desired', { type: DesiredStateEnum, description: 'What operators last asked for; `state` follows.' }),
    cutoverPolicy: t.expose('cutoverPolicy', { type: CutoverPolicyEnum, description: 'When the cutovers come, for all members.' }),
    cutoverAt: t.expose('cutoverAt', {
      type: 'DateTime',
      nullable: true,
      description: 'No member cuts over before this moment, which was set at the start or by `cutOverMigrationGroup`; null where none was.',
    }),
    memberCounts: t.field({
      type: [MemberCount],
      description: 'How many members are at what.',
      resolve: async ({ id }, _, { db }) => {
        const members = await membersOf(db, id)
        return memberStates
          .map((state) => ({ state, count: members.filter((member) => member.state === state).length }))
          .filter(({ count }) => count > 0)
      },
    }),
    members: t.connection(
      {
        type: MigrationGroupMember,
        description: 'Its members, each after all that it depends on.',
        complexity: pageComplexity,
        args: { states: t.arg({ type: [MemberStateEnum], description: 'Only those in one of these states.' }) },
        resolve: async ({ id }, args, { db }) => {
          checkPageSizes(args)
          const members = (await membersOf(db, id)).filter(({ state }) => !args.states || args.states.includes(state))
          const connection = resolveArrayConnection({ args, defaultSize: limits.defaultPageSize, maxSize: limits.pageSize }, members)
          return { ...connection, totalCount: async () => members.length }
        },
      },
      MemberConnection,
    ),
    createdAt: t.expose('createdAt', { type: 'DateTime', description: 'When it was stored.' }),
    startedAt: t.expose('startedAt', { type: 'DateTime', nullable: true, description: 'When it was started; null before.' }),
    endedAt: t.expose('endedAt', { type: 'DateTime', nullable: true, description: 'When its last member had ended; null before.' }),
  }),
})

builder.objectField(Migration, 'group', (t) =>
  t.field({
    type: MigrationGroup,
    nullable: true,
    description: 'The group that it is a member of; null where it was started by itself.',
    resolve: async ({ id }, _, { db }) => {
      const [member] = await db.select().from(migrationGroupMembers).where(eq(migrationGroupMembers.migrationId, id))
      return member?.groupId ?? null
    },
  }),
)

builder.objectField(Migration, 'cutoverAt', (t) =>
  t.field({
    type: 'DateTime',
    nullable: true,
    description:
      'It cuts over not before this moment, as was said at its start, by `cutOverMigration`, or else for its group; null where nothing was said. With it the policy MANUAL waits for no other word.',
    resolve: async ({ id, cutoverRequestedAt }, _, { db }) => {
      if (cutoverRequestedAt) return cutoverRequestedAt
      const [group] = await db
        .select({ cutoverAt: migrationGroups.cutoverAt })
        .from(migrationGroupMembers)
        .innerJoin(migrationGroups, eq(migrationGroups.id, migrationGroupMembers.groupId))
        .where(eq(migrationGroupMembers.migrationId, id))
      return group?.cutoverAt ?? null
    },
  }),
)

async function membersOf(db: SchemaDatabase, groupId: string): Promise<Member[]> {
  return (await readGroup(db, groupId))?.members ?? []
}
