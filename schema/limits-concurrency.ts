import { and, eq, lte } from 'drizzle-orm'
import { admissions, concurrencyLimits } from '../src/database/tables/admission.ts'
import { concurrencyScopes, defaultConcurrencyLimits, type ConcurrencyScope } from '../src/domain/admission.ts'
import type { LimitEntry } from '../src/workflows/operations.ts'
import { builder } from './builder.ts'
import { Cloud } from './cloud.ts'
import type { SchemaDatabase } from './context.ts'
import { describedEnum } from './described-enum.ts'
import { acting, payload } from './errors.ts'
import { rowIdOf } from './global-id.ts'
import { Host } from './host.ts'
import { checkedKey, idempotencyKey } from './idempotency-key.ts'
import { invalidInput } from './invalid-input.ts'
import { Migration } from './migration.ts'

const ScopeEnum = describedEnum<ConcurrencyScope>('ConcurrencyScope', 'What copies are counted by.', {
  CLOUD: 'From a cloud and to it, together.',
  HOST: 'From a host, and to it where its cloud has no other: else the provider chooses the host.',
  DISK: 'Reading from one storage of a host, where its cloud tells which disks are on which; else from one disk.',
})

type Limit = typeof concurrencyLimits.$inferSelect

const ConcurrencyLimit = builder.objectRef<Limit>('ConcurrencyLimit').implement({
  description:
    'How many migrations may copy at once. One holds its slots from its admission until it is READY_TO_CUT_OVER or ends; also while it is paused.',
  fields: (t) => ({
    scope: t.expose('scope', { type: ScopeEnum, description: 'What is counted by.' }),
    cloud: t.field({
      type: Cloud,
      nullable: true,
      description: 'The cloud that it is for; null where it is for all that have none of their own.',
      resolve: ({ scope, subject }) => (scope === 'CLOUD' && subject !== '' ? subject : null),
    }),
    host: t.field({
      type: Host,
      nullable: true,
      description: 'The host that it is for; null where it is for all that have none of their own.',
      resolve: ({ scope, subject }) => (scope === 'HOST' && subject !== '' ? subject : null),
    }),
    limit: t.exposeInt('limit', { description: 'So many at once; 0 lets none begin.' }),
  }),
})

/** The general one of each scope, then those of single clouds and hosts. */
async function limitsOf(db: SchemaDatabase): Promise<Limit[]> {
  const stored = await db.select().from(concurrencyLimits).orderBy(concurrencyLimits.scope, concurrencyLimits.subject)
  const general = concurrencyScopes.map(
    (scope) =>
      stored.find((limit) => limit.scope === scope && limit.subject === '') ?? {
        scope,
        subject: '',
        limit: defaultConcurrencyLimits[scope],
      },
  )
  return [...general, ...stored.filter(({ subject }) => subject !== '')]
}

builder.queryField('concurrencyLimits', (t) =>
  t.field({
    type: [ConcurrencyLimit],
    authScopes: { viewer: true },
    description: 'How many migrations may copy at once, by cloud, host and disk.',
    resolve: (_, _args, { db }) => limitsOf(db),
  }),
)

const ConcurrencyLimitInput = builder.inputType('ConcurrencyLimitInput', {
  description: 'A limit to set: of one cloud or host, or of all of a scope that have none of their own.',
  fields: (t) => ({
    scope: t.field({ type: ScopeEnum, required: true, description: 'What is counted by.' }),
    cloudId: t.id({ description: 'Only for this cloud; with the scope CLOUD.' }),
    hostId: t.id({ description: 'Only for this host; with the scope HOST.' }),
    limit: t.int({ description: '0 to 1,000 at once; null goes back to what holds without it.' }),
  }),
})

const SetConcurrencyLimitsInput = builder.inputType('SetConcurrencyLimitsInput', {
  description: 'Which limits to set; others stay as they are.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    limits: t.field({ type: [ConcurrencyLimitInput], required: true, description: 'Which limits to set.' }),
  }),
})

const SetConcurrencyLimitsSuccess = builder.objectRef<object>('SetConcurrencyLimitsSuccess').implement({
  description: 'The limits hold from now on. Who copies goes on, also where fewer are allowed now.',
  fields: (t) => ({
    limits: t.field({ type: [ConcurrencyLimit], description: 'All limits.', resolve: (_, _args, { db }) => limitsOf(db) }),
  }),
})

builder.mutationField('setConcurrencyLimits', (t) =>
  t.field({
    type: SetConcurrencyLimitsSuccess,
    errors: payload('setConcurrencyLimits'),
    authScopes: { admin: true },
    description: 'Sets how many migrations may copy at once. For admins.',
    args: { input: t.arg({ type: SetConcurrencyLimitsInput, required: true, description: 'Which limits to set.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () => {
        await operations.setConcurrencyLimits(actor, { idempotencyKey: checkedKey(input), limits: input.limits.map(toEntry) })
        return {}
      }),
  }),
)

/** @throws PortolanError INVALID_INPUT for a subject that its scope does not have. */
function toEntry({ scope, cloudId, hostId, limit }: typeof ConcurrencyLimitInput.$inferInput, index: number): LimitEntry {
  const path = (field: string) => ['input', 'limits', `${index}`, field]
  if (cloudId && scope !== 'CLOUD') throw invalidInput(`belongs to the scope CLOUD, and the scope is ${scope}`, path('cloudId'))
  if (hostId && scope !== 'HOST') throw invalidInput(`belongs to the scope HOST, and the scope is ${scope}`, path('hostId'))
  const subject = cloudId ? rowIdOf('Cloud', cloudId, path('cloudId')) : hostId ? rowIdOf('Host', hostId, path('hostId')) : null
  return { scope, subject, limit: limit ?? null }
}

builder.objectField(Migration, 'queuePosition', (t) =>
  t.int({
    nullable: true,
    description: 'Its place among those that wait for a slot, from 1; null where it does not wait. `problem` says what it lacks.',
    resolve: async ({ id }, _, { db }) => {
      const [own] = await db
        .select()
        .from(admissions)
        .where(and(eq(admissions.migrationId, id), eq(admissions.state, 'WAITING')))
      if (!own) return null
      const before = await db
        .select({ id: admissions.migrationId })
        .from(admissions)
        .where(and(eq(admissions.state, 'WAITING'), lte(admissions.sequence, own.sequence)))
      return before.length
    },
  }),
)
