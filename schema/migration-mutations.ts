import type { Finding } from '../src/domain/finding.ts'
import type { Operations } from '../src/workflows/operations.ts'
import { builder } from './builder.ts'
import { acting, payload } from './errors.ts'
import { FindingType } from './finding.ts'
import { rowIdOf } from './global-id.ts'
import { checkedKey, idempotencyKey } from './idempotency-key.ts'
import { Migration } from './migration.ts'
import { MigrationChangesInput, toMigrationChanges } from './migration-changes-input.ts'
import { migrationRequestFields, toMigrationRequest } from './migration-request-input.ts'

const ValidateMigrationInput = builder.inputType('ValidateMigrationInput', {
  description: 'Which migration to check.',
  fields: migrationRequestFields,
})

const ValidateMigrationSuccess = builder.objectRef<{ findings: Finding[] }>('ValidateMigrationSuccess').implement({
  description: 'What pre-flight found.',
  fields: (t) => ({
    canStart: t.boolean({
      description: 'Whether `startMigration` with the same input would be accepted: whether no finding is a blocker.',
      resolve: ({ findings }) => findings.every((finding) => finding.severity !== 'BLOCKER'),
    }),
    findings: t.expose('findings', { type: [FindingType], description: 'All findings.' }),
  }),
})

builder.mutationField('validateMigration', (t) =>
  t.field({
    type: ValidateMigrationSuccess,
    errors: payload('validateMigration'),
    authScopes: { operator: true },
    description: 'Pre-flight alone: checks both sides and changes nothing. For operators.',
    args: { input: t.arg({ type: ValidateMigrationInput, required: true, description: 'Which migration to check.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () => ({ findings: await operations.validateMigration(actor, toMigrationRequest(input)) })),
  }),
)

interface Changed {
  migrationId: string
}

function migrationSuccess(name: string, description: string) {
  return builder.objectRef<Changed>(name).implement({
    description,
    fields: (t) => ({
      migration: t.field({ type: Migration, description: 'The migration as it is now.', resolve: ({ migrationId }) => migrationId }),
    }),
  })
}

const StartMigrationInput = builder.inputType('StartMigrationInput', {
  description: 'What to move, where to, and how.',
  fields: (t) => ({
    ...migrationRequestFields(t),
    cutoverAt: t.field({
      type: 'DateTime',
      description:
        'Not cut over before this moment, which is to come within 366 days. With it the policy MANUAL waits for no other word. `cutOverMigration` changes it.',
    }),
  }),
})

builder.mutationField('startMigration', (t) =>
  t.field({
    type: migrationSuccess('StartMigrationSuccess', 'The migration was accepted and goes on by itself.'),
    errors: payload('startMigration'),
    authScopes: { operator: true },
    description:
      'Begins to move a running virtual machine to another cloud, of whatever provider, and answers at once. Watch it with `migrationProgress`. For operators.',
    args: { input: t.arg({ type: StartMigrationInput, required: true, description: 'What to move, where to, and how.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () =>
        operations.startMigration(actor, { ...toMigrationRequest(input), ...(input.cutoverAt && { cutoverAt: input.cutoverAt }) }),
      ),
  }),
)

type Steering = 'pauseMigration' | 'resumeMigration' | 'cancelMigration' | 'discardMigration'

/** These mutations differ in their words only. */
function steering(mutation: Steering & keyof Operations, description: string, success: string) {
  const name = `${mutation[0]?.toUpperCase()}${mutation.slice(1)}`
  const Input = builder.inputType(`${name}Input`, {
    description: 'Which migration.',
    fields: (t) => ({
      idempotencyKey: idempotencyKey(t),
      migrationId: t.id({ required: true, description: "The migration's `id`." }),
    }),
  })
  builder.mutationField(mutation, (t) =>
    t.field({
      type: migrationSuccess(`${name}Success`, success),
      errors: payload(mutation),
      authScopes: { operator: true },
      description: `${description} For operators.`,
      args: { input: t.arg({ type: Input, required: true, description: 'Which migration.' }) },
      resolve: (_, { input }, { operations, actor }) =>
        acting(async () =>
          operations[mutation](actor, {
            idempotencyKey: checkedKey(input),
            migrationId: rowIdOf('Migration', input.migrationId, ['input', 'migrationId']),
          }),
        ),
    }),
  )
}

steering(
  'pauseMigration',
  'Lets a migration stand still; the source runs on, and what was copied is kept.',
  'The pause was asked for; `state` follows.',
)
steering('resumeMigration', 'Lets a paused migration go on from what was copied.', 'Going on was asked for; `state` follows.')
steering(
  'cancelMigration',
  'Ends a migration before its commit, and answers once nothing is copied any more: the source goes on, and what was copied is kept until it is discarded.',
  'The migration is cancelled.',
)
steering(
  'discardMigration',
  'Deletes the copy that a migration keeps at the destination (`copyKept`).',
  'The discard was accepted and goes on by itself.',
)

const RetryMigrationInput = builder.inputType('RetryMigrationInput', {
  description: 'Which migration, and what it does otherwise.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    migrationId: t.id({ required: true, description: "The migration's `id`." }),
    changes: t.field({ type: MigrationChangesInput, description: 'What it does otherwise from now on; all as before when left away.' }),
  }),
})

builder.mutationField('retryMigration', (t) =>
  t.field({
    type: migrationSuccess('RetryMigrationSuccess', 'The attempt was accepted and goes on by itself.'),
    errors: payload('retryMigration'),
    authScopes: { operator: true },
    description:
      'Begins another attempt of a migration that failed or was cancelled, where wanted with `changes`. Blocks that its copy holds already are compared, and not sent again. For operators.',
    args: { input: t.arg({ type: RetryMigrationInput, required: true, description: 'Which migration, and what it does otherwise.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () =>
        operations.retryMigration(actor, {
          idempotencyKey: checkedKey(input),
          migrationId: rowIdOf('Migration', input.migrationId, ['input', 'migrationId']),
          ...(input.changes && { changes: toMigrationChanges(input.changes) }),
        }),
      ),
  }),
)

const RollbackMigrationInput = builder.inputType('RollbackMigrationInput', {
  description: 'Which migration, and whether what was written since is carried back.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    migrationId: t.id({ required: true, description: "The migration's `id`." }),
    carryWritesBack: t.boolean({
      description:
        'Whether all that was written at the destination comes along; false when left away. The destination serves meanwhile, and blocks that differ are sent back to the source above its own disks, so that a failure or a cancel before the commit leaves both as they were. It costs what a migration of the same disks does that has most of its blocks there already, with a downtime of its own. Needs the capability `destination.adopt.start` of the source cloud, and a migration without `addressing`. Its hooks are not run, and directories that it excluded come back as the destination has them.',
    }),
  }),
})

builder.mutationField('rollbackMigration', (t) =>
  t.field({
    type: migrationSuccess(
      'RollbackMigrationSuccess',
      'The rollback was accepted and goes on by itself. Where it carries writes back, `migration` is the new one that does so; the one that it rolls back is ROLLED_BACK once that is committed.',
    ),
    errors: payload('rollbackMigration'),
    authScopes: { operator: true },
    description:
      'Goes back to the source of a completed migration, which was kept. By itself it shuts the destination down and fences it first, then starts the source from its disk as it was at the freeze; what was written at the destination since `exposedAt` is left behind in its disks. With `carryWritesBack` nothing is left behind: a migration in the other direction, with the same permitted downtime and health check, cuts over to the source as soon as it may. For operators.',
    args: { input: t.arg({ type: RollbackMigrationInput, required: true, description: 'Which migration, and how.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () =>
        operations.rollbackMigration(actor, {
          idempotencyKey: checkedKey(input),
          migrationId: rowIdOf('Migration', input.migrationId, ['input', 'migrationId']),
          ...(input.carryWritesBack && { carryWritesBack: true }),
        }),
      ),
  }),
)

const CutOverMigrationInput = builder.inputType('CutOverMigrationInput', {
  description: 'Which migration, and when.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    migrationId: t.id({ required: true, description: "The migration's `id`." }),
    at: t.field({ type: 'DateTime', description: 'Not before this moment; at once when left away.' }),
  }),
})

builder.mutationField('cutOverMigration', (t) =>
  t.field({
    type: migrationSuccess('CutOverMigrationSuccess', 'The cutover was asked for; `phase` follows.'),
    errors: payload('cutOverMigration'),
    authScopes: { operator: true },
    description: 'Asks for the cutover, as soon as the criterion holds: what a migration with the MANUAL policy waits for. For operators.',
    args: { input: t.arg({ type: CutOverMigrationInput, required: true, description: 'Which migration, and when.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () =>
        operations.cutOverMigration(actor, {
          idempotencyKey: checkedKey(input),
          migrationId: rowIdOf('Migration', input.migrationId, ['input', 'migrationId']),
          ...(input.at && { at: input.at }),
        }),
      ),
  }),
)
