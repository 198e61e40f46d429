import type { BandwidthSchedule, BandwidthWindow } from '../src/domain/bandwidth-schedule.ts'
import { BandwidthLimitInput, bandwidthWords, toBandwidthSchedule, WeekdayEnum } from './bandwidth-input.ts'
import { builder } from './builder.ts'
import { acting, payload } from './errors.ts'
import { rowIdOf } from './global-id.ts'
import { checkedKey, idempotencyKey } from './idempotency-key.ts'
import { Migration } from './migration.ts'

const BandwidthWindowType = builder.objectRef<BandwidthWindow>('BandwidthWindow').implement({
  description: 'A limit that holds at some time of the day.',
  fields: (t) => ({
    days: t.field({ type: [WeekdayEnum], description: bandwidthWords.days, resolve: ({ days }) => days ?? [] }),
    from: t.exposeString('from', { description: bandwidthWords.from }),
    to: t.exposeString('to', { description: bandwidthWords.to }),
    timeZone: t.exposeString('timeZone', { description: bandwidthWords.timeZone }),
    limitBytesPerSecond: t.expose('limitBytesPerSecond', { type: 'ByteCount', description: bandwidthWords.windowLimit }),
  }),
})

const BandwidthLimitType = builder.objectRef<BandwidthSchedule>('BandwidthLimit').implement({
  description:
    'How much a migration may send over the network. The remainder, which is sent while the source stands still, is not limited.',
  fields: (t) => ({
    limitBytesPerSecond: t.field({
      type: 'ByteCount',
      nullable: true,
      description: bandwidthWords.limit,
      resolve: ({ limitBytesPerSecond }) => limitBytesPerSecond ?? null,
    }),
    windows: t.field({ type: [BandwidthWindowType], description: bandwidthWords.windows, resolve: ({ windows }) => windows }),
  }),
})

builder.objectField(Migration, 'bandwidth', (t) =>
  t.field({
    type: BandwidthLimitType,
    nullable: true,
    description: 'How much it may send; null where nothing limits it.',
    resolve: ({ bandwidth, request }) => bandwidth ?? request.bandwidth ?? null,
  }),
)

const SetBandwidthLimitInput = builder.inputType('SetBandwidthLimitInput', {
  description: 'Which migration, and how much it may send from now on.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    migrationId: t.id({ required: true, description: "The migration's `id`." }),
    bandwidth: t.field({ type: BandwidthLimitInput, required: true, description: 'Replaces what it had.' }),
  }),
})

const SetBandwidthLimitSuccess = builder.objectRef<{ migrationId: string }>('SetBandwidthLimitSuccess').implement({
  description: 'The limit holds within a second.',
  fields: (t) => ({
    migration: t.field({ type: Migration, description: 'The migration as it is now.', resolve: ({ migrationId }) => migrationId }),
  }),
})

builder.mutationField('setBandwidthLimit', (t) =>
  t.field({
    type: SetBandwidthLimitSuccess,
    errors: payload('setBandwidthLimit'),
    authScopes: { operator: true },
    description: 'Changes how much a migration may send over the network, also while it copies. For operators.',
    args: { input: t.arg({ type: SetBandwidthLimitInput, required: true, description: 'Which migration, and the limit.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () =>
        operations.setBandwidthLimit(actor, {
          idempotencyKey: checkedKey(input),
          migrationId: rowIdOf('Migration', input.migrationId, ['input', 'migrationId']),
          bandwidth: toBandwidthSchedule(input.bandwidth, ['input', 'bandwidth']),
        }),
      ),
  }),
)
