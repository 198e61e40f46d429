import { PortolanError } from '../src/domain/errors.ts'
import { mostMembers, requireMemberCount } from '../src/domain/migration-group-members.ts'
import type { NewMember, Operations } from '../src/workflows/operations.ts'
import { builder } from './builder.ts'
import { acting, payload } from './errors.ts'
import { rowIdOf } from './global-id.ts'
import { checkedKey, idempotencyKey } from './idempotency-key.ts'
import { CutoverPolicyEnum } from './migration-enums.ts'
import { MigrationGroup } from './migration-group.ts'
import { migrationRequestFields, toMigrationRequest } from './migration-request-input.ts'

function groupSuccess(name: string, description: string) {
  return builder.objectRef<{ migrationGroupId: string }>(name).implement({
    description,
    fields: (t) => ({
      migrationGroup: t.field({
        type: MigrationGroup,
        description: 'The group as it is now.',
        resolve: ({ migrationGroupId }) => migrationGroupId,
      }),
    }),
  })
}

const MemberInput = builder.inputType('MigrationGroupMemberInput', {
  description: 'A virtual machine of the group, and how to move it. When it cuts over is said for the group.',
  fields: (t) => {
    const { idempotencyKey: _key, cutoverPolicy: _policy, ...request } = migrationRequestFields(t)
    return {
      name: t.string({ required: true, description: 'Unique in the group, 1 to 100 visible characters.' }),
      dependsOn: t.stringList({
        defaultValue: [],
        required: true,
        description: 'Names of members that have to be COMPLETED before this one cuts over. Its copy does not wait for them.',
      }),
      ...request,
    }
  },
})

const CreateMigrationGroupInput = builder.inputType('CreateMigrationGroupInput', {
  description: 'Which machines to move together, in what order, and when.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    name: t.string({ required: true, description: 'For people; 1 to 100 visible characters.' }),
    cutoverPolicy: t.field({
      type: CutoverPolicyEnum,
      defaultValue: 'AUTOMATIC',
      required: true,
      description: 'When the cutovers come, for all members.',
    }),
    cutoverAt: t.field({
      type: 'DateTime',
      description:
        'No member cuts over before this moment, which is to come within 366 days. With it the policy MANUAL waits for no other word.',
    }),
    members: t.field({ type: [MemberInput], required: true, description: `1 to ${mostMembers} members, in any order.` }),
  }),
})

builder.mutationField('createMigrationGroup', (t) =>
  t.field({
    type: groupSuccess('CreateMigrationGroupSuccess', 'The group was stored; `startMigrationGroup` begins it.'),
    errors: payload('createMigrationGroup'),
    authScopes: { operator: true },
    description:
      'Stores a group of migrations. Refuses cycles, unknown dependencies, and the same machine or name twice. Nothing is moved yet. For operators.',
    args: { input: t.arg({ type: CreateMigrationGroupInput, required: true, description: 'Which machines, in what order, and when.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () => {
        requireMemberCount(input.members.length)
        const { name, cutoverPolicy, cutoverAt } = input
        return operations.createMigrationGroup(actor, {
          idempotencyKey: checkedKey(input),
          name,
          cutoverPolicy,
          ...(cutoverAt && { cutoverAt }),
          members: input.members.map((member, index) => toMember(member, index, input)),
        })
      }),
  }),
)

/** @throws PortolanError INVALID_INPUT as a migration by itself would, with the member's place. */
function toMember(
  member: typeof MemberInput.$inferInput,
  index: number,
  { idempotencyKey: key, cutoverPolicy }: typeof CreateMigrationGroupInput.$inferInput,
): NewMember {
  const { name, dependsOn, ...rest } = member
  try {
    const { idempotencyKey: _key, ...request } = toMigrationRequest({ ...rest, idempotencyKey: key, cutoverPolicy })
    return { name, dependsOn, request }
  } catch (error) {
    if (!(error instanceof PortolanError)) throw error
    const { code, message, retryable, remedy, path } = error
    const place = ['input', 'members', `${index}`, ...path.slice(1)]
    throw new PortolanError(code, `Member ${index}: ${message}`, { retryable, remedy, path: place })
  }
}

type Steering = 'startMigrationGroup' | 'pauseMigrationGroup' | 'resumeMigrationGroup' | 'cancelMigrationGroup'

/** These mutations differ in their words only. */
function steering(mutation: Steering & keyof Operations, description: string, success: string) {
  const name = `${mutation[0]?.toUpperCase()}${mutation.slice(1)}`
  const Input = builder.inputType(`${name}Input`, {
    description: 'Which group.',
    fields: (t) => ({
      idempotencyKey: idempotencyKey(t),
      migrationGroupId: t.id({ required: true, description: "The migration group's `id`." }),
    }),
  })
  builder.mutationField(mutation, (t) =>
    t.field({
      type: groupSuccess(`${name}Success`, success),
      errors: payload(mutation),
      authScopes: { operator: true },
      description: `${description} For operators.`,
      args: { input: t.arg({ type: Input, required: true, description: 'Which group.' }) },
      resolve: (_, { input }, { operations, actor }) =>
        acting(async () =>
          operations[mutation](actor, {
            idempotencyKey: checkedKey(input),
            migrationGroupId: rowIdOf('MigrationGroup', input.migrationGroupId, ['input', 'migrationGroupId']),
          }),
        ),
    }),
  )
}

steering(
  'startMigrationGroup',
  'Begins a group: its members are started in order as the concurrency limits allow. Watch it with `migrationGroupChanges`.',
  'The group was started and goes on by itself.',
)
steering(
  'pauseMigrationGroup',
  'Lets all members stand still that have not begun their switchover, and starts no more.',
  'The pause was asked for; `state` follows.',
)
steering('resumeMigrationGroup', 'Lets all paused members go on from what was copied.', 'Going on was asked for; `state` follows.')
steering(
  'cancelMigrationGroup',
  'Ends all members that have not committed; their sources go on, and what was copied is kept until it is discarded. Completed members stay as they are.',
  'The cancel was asked for; `state` follows.',
)

const CutOverMigrationGroupInput = builder.inputType('CutOverMigrationGroupInput', {
  description: 'Which group, and when.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    migrationGroupId: t.id({ required: true, description: "The migration group's `id`." }),
    at: t.field({ type: 'DateTime', description: 'Not before this moment; at once when left away.' }),
  }),
})

builder.mutationField('cutOverMigrationGroup', (t) =>
  t.field({
    type: groupSuccess('CutOverMigrationGroupSuccess', 'The cutover was asked for; the members follow.'),
    errors: payload('cutOverMigrationGroup'),
    authScopes: { operator: true },
    description:
      'Asks for the cutover of all members, in the order of their dependencies, each as soon as its criterion holds. Takes the place of what was asked for single members before. For operators.',
    args: { input: t.arg({ type: CutOverMigrationGroupInput, required: true, description: 'Which group, and when.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () =>
        operations.cutOverMigrationGroup(actor, {
          idempotencyKey: checkedKey(input),
          migrationGroupId: rowIdOf('MigrationGroup', input.migrationGroupId, ['input', 'migrationGroupId']),
          ...(input.at && { at: input.at }),
        }),
      ),
  }),
)
