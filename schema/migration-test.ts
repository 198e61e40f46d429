import { desc, eq } from 'drizzle-orm'
import { migrationTests } from '../src/database/tables/migration-test.ts'
import { notTriedByTest, type MigrationTestState } from '../src/domain/migration-test.ts'
import { builder } from './builder.ts'
import { describedEnum } from './described-enum.ts'
import { acting, payload } from './errors.ts'
import { rowIdOf } from './global-id.ts'
import { checkedKey, idempotencyKey } from './idempotency-key.ts'
import { limits } from './limits.ts'
import { Migration } from './migration.ts'
import { rowNode } from './row-node.ts'

const MigrationTestStateEnum = describedEnum<MigrationTestState>('MigrationTestState', 'How a test boot stands.', {
  PENDING: 'It begins after a round after which the migration could cut over, while it is not paused.',
  RUNNING: 'The copy boots, isolated, on an overlay, or is being removed after it; syncing goes on.',
  PASSED: 'The copy passed the health check, and the test is removed.',
  FAILED: 'It did not, or could not be booted; `problem` says why, and the test is removed.',
})

const MigrationTest = rowNode('MigrationTest', migrationTests)
MigrationTest.implement({
  description:
    'A boot of what has been copied so far, isolated from every network, on an overlay that is thrown away. It is the copy as it lies on the disk, not as the cutover prepares it: see `notTried`.',
  fields: (t) => ({
    migration: t.field({ type: Migration, description: 'Whose copy was booted.', resolve: ({ migrationId }) => migrationId }),
    attempt: t.exposeInt('attempt', { description: "The migration's attempt, from 1." }),
    state: t.expose('state', { type: MigrationTestStateEnum, description: 'How it stands.' }),
    problem: t.exposeString('problem', { nullable: true, description: 'Why it failed: one sentence; null where it did not.' }),
    frozenMs: t.exposeInt('frozenMs', {
      nullable: true,
      description: 'How long writes in the source were held so that the copy is of one moment, in milliseconds; null before.',
    }),
    healthyAfterMs: t.exposeInt('healthyAfterMs', {
      nullable: true,
      description: 'From the boot to the passed health check, in milliseconds; null where it did not pass.',
    }),
    notTried: t.field({
      type: ['String'],
      description:
        'What the cutover does to the copy before it boots and this test did not, so that its result says nothing about it: a sentence each.',
      resolve: async ({ migrationId }, _, context) => notTriedByTest((await Migration.getDataloader(context).load(migrationId)).request),
    }),
    console: t.exposeString('console', {
      nullable: true,
      authScopes: { operator: true },
      description:
        "The newest of the guest's serial console as text, at most 64 KiB; null before the end, and where the provider has none. Guests print passwords there, too. For operators.",
    }),
    requestedAt: t.expose('requestedAt', { type: 'DateTime', description: 'When it was asked for.' }),
    endedAt: t.expose('endedAt', { type: 'DateTime', nullable: true, description: 'When it was over and removed; null before.' }),
  }),
})

builder.objectField(Migration, 'tests', (t) =>
  t.field({
    type: [MigrationTest],
    description: 'Its test boots, the newest first; at most as many as a page holds.',
    resolve: (row, _, { db }) =>
      db
        .select()
        .from(migrationTests)
        .where(eq(migrationTests.migrationId, row.id))
        .orderBy(desc(migrationTests.requestedAt))
        .limit(limits.defaultPageSize),
  }),
)

const TestMigrationInput = builder.inputType('TestMigrationInput', {
  description: 'Which migration.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    migrationId: t.id({ required: true, description: "The migration's `id`." }),
  }),
})

const TestMigrationSuccess = builder.objectRef<{ testId: string }>('TestMigrationSuccess').implement({
  description: 'The test was accepted; `state` follows.',
  fields: (t) => ({ test: t.field({ type: MigrationTest, description: 'The test as it is now.', resolve: ({ testId }) => testId }) }),
})

builder.mutationField('testMigration', (t) =>
  t.field({
    type: TestMigrationSuccess,
    errors: payload('testMigration'),
    authScopes: { operator: true },
    description:
      'Boots the copy of a migration that is READY_TO_CUT_OVER in a virtual machine of its own, isolated from every network and on an overlay, health-checks it, keeps its console, and removes it. The source runs on, but for a moment in which its writes are held so that the copy is of one moment, never longer than the permitted downtime and only where the rest fits into that; syncing goes on. The guest fix-up, other addresses and the emptying of excluded directories are not tried (`notTried`). For operators.',
    args: { input: t.arg({ type: TestMigrationInput, required: true, description: 'Which migration.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () =>
        operations.testMigration(actor, {
          idempotencyKey: checkedKey(input),
          migrationId: rowIdOf('Migration', input.migrationId, ['input', 'migrationId']),
        }),
      ),
  }),
)
