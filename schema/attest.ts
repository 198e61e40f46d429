import { encodeGlobalID } from '@pothos/plugin-relay'
import { eq } from 'drizzle-orm'
import { apiTokens } from '../src/database/tables/api-token.ts'
import { attestations } from '../src/database/tables/attestation.ts'
import { builder } from './builder.ts'
import { acting, payload } from './errors.ts'
import { rowIdOf } from './global-id.ts'
import { checkedKey, idempotencyKey } from './idempotency-key.ts'
import { invalidInput } from './invalid-input.ts'
import { rowNode } from './row-node.ts'

export const Attestation = rowNode('Attestation', attestations)
Attestation.implement({
  description: "An administrator's word that a source is dead and stays so. It holds for one attempt, and is never changed or deleted.",
  fields: (t) => ({
    uniqueId: t.exposeString('uniqueId', { description: 'The unique id of the machine whose source is meant.' }),
    migrationId: t.id({
      description: 'The migration that it was said of.',
      resolve: ({ migrationId }) => encodeGlobalID('Migration', migrationId),
    }),
    attempt: t.exposeInt('attempt', { description: 'The attempt that it was said of.' }),
    statement: t.exposeString('statement', { description: 'How they know, in their words.' }),
    tokenName: t.string({
      nullable: true,
      description: 'The name of the token that it was sent with; null where that was deleted since.',
      resolve: async ({ tokenId }, _, { db }) =>
        (await db.select({ name: apiTokens.name }).from(apiTokens).where(eq(apiTokens.id, tokenId)))[0]?.name ?? null,
    }),
    at: t.expose('at', { type: 'DateTime', description: 'When it was said.' }),
  }),
})

const AttestSourceDeadInput = builder.inputType('AttestSourceDeadInput', {
  description: 'Whose source is dead, and how that is known. Name the machine by `migrationId`, or by `uniqueId` and `cloudId`.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    migrationId: t.id({ description: 'The migration, as `MigrationVerdict.migrationId` names it.' }),
    uniqueId: t.string({ description: "The machine's unique id, together with `cloudId`." }),
    cloudId: t.id({ description: 'The cloud whose records tell of it: its destination. Together with `uniqueId`.' }),
    statement: t.string({
      required: true,
      description: 'How you know that it is dead and stays so, 1 to 2,000 characters. Kept for ever.',
    }),
  }),
})

builder.mutationField('attestSourceDead', (t) =>
  t.field({
    type: builder.objectRef<{ attestationId: string }>('AttestSourceDeadSuccess').implement({
      description: 'It was stored, and what waits for it goes on.',
      fields: (fields) => ({
        attestation: fields.field({ type: Attestation, description: 'What was stored.', resolve: ({ attestationId }) => attestationId }),
      }),
    }),
    errors: payload('attestSourceDead'),
    authScopes: { admin: true },
    description:
      'Says on your responsibility that a source that nobody can reach is dead and stays so: for a machine that is MIGRATED its destination may then go live without the source having been fenced; for one that is NOT_MIGRATED nothing starts elsewhere, and the reconciliation ends. Refused where the source answers. A source that returns all the same is fenced. For admins.',
    args: { input: t.arg({ type: AttestSourceDeadInput, required: true, description: 'Whose source, and how you know.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () => {
        const { length } = input.statement.trim()
        if (length < 1 || length > 2000) throw invalidInput(`must have 1 to 2,000 characters, and has ${length}`, ['input', 'statement'])
        return operations.attestSourceDead(actor, {
          idempotencyKey: checkedKey(input),
          of: toMachine(input),
          statement: input.statement.trim(),
        })
      }),
  }),
)

function toMachine(input: {
  migrationId?: string | null | undefined
  uniqueId?: string | null | undefined
  cloudId?: string | null | undefined
}) {
  const { migrationId, uniqueId, cloudId } = input
  if (migrationId != null && uniqueId == null && cloudId == null)
    return { migrationId: rowIdOf('Migration', migrationId, ['input', 'migrationId']) }
  if (migrationId == null && uniqueId != null && cloudId != null)
    return { uniqueId: uniqueId.toLowerCase(), cloudId: rowIdOf('Cloud', cloudId, ['input', 'cloudId']) }
  throw invalidInput('must name the machine by migrationId alone, or by uniqueId and cloudId', ['input'])
}
