import { builder } from './builder.ts'
import { acting, payload } from './errors.ts'
import { checkedKey, idempotencyKey } from './idempotency-key.ts'
import { Reconciliation } from './reconcile.ts'
import { toVerdictQuestion } from './verdict.ts'

const ReconcileMigrationsInput = builder.inputType('ReconcileMigrationsInput', {
  description: 'Which virtual machines, as in `migrationVerdicts`: give exactly one of `migrationIds` and `cloudId`.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    migrationIds: t.idList({ description: "Migrations' `id`s, 1 to 100, also of migrations that this control plane does not have." }),
    cloudId: t.id({ description: 'A cloud: all machines that its records tell of, and those whose source it is.' }),
  }),
})

builder.mutationField('reconcileMigrations', (t) =>
  t.field({
    type: builder.objectRef<{ reconciliationIds: string[] }>('ReconcileMigrationsSuccess').implement({
      description: 'The verdicts were read, and what is safe is being done.',
      fields: (fields) => ({
        reconciliations: fields.field({
          type: [Reconciliation],
          description: 'One for each machine, as it is now; `state` follows.',
          resolve: ({ reconciliationIds }) => reconciliationIds,
        }),
      }),
    }),
    errors: payload('reconcileMigrations'),
    authScopes: { operator: true },
    description:
      'Does what is safe by the verdicts, once for each attempt, however often it is sent. MIGRATED: the source is fenced, then the destination goes live. NOT_MIGRATED: the commit is made impossible, the copy is powered off and kept, and the source goes on. What can not be reached is waited for. Migrations of another control plane, or of a lost database, are touched by this alone; those whose workflow runs here are only reported. For operators.',
    args: { input: t.arg({ type: ReconcileMigrationsInput, required: true, description: 'Which machines.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () =>
        operations.reconcileMigrations(actor, { idempotencyKey: checkedKey(input), ...toVerdictQuestion(input, ['input']) }),
      ),
  }),
)
