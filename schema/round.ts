import { resolveOffsetConnection } from '@pothos/plugin-relay'
import { and, count, desc, eq } from 'drizzle-orm'
import { rounds } from '../src/database/tables/migration.ts'
import { builder } from './builder.ts'
import { cappedInt } from './capped-int.ts'
import { connectionType } from './connection-type.ts'
import { checkPageSizes, pageComplexity } from './connection.ts'
import { describedEnum } from './described-enum.ts'
import { limits } from './limits.ts'
import { Migration } from './migration.ts'

type RoundRow = typeof rounds.$inferSelect

const RoundMode = describedEnum<RoundRow['mode']>('RoundMode', 'What a round looks at.', {
  FULL: 'The whole disk.',
  CHANGED: 'What changed since the round before.',
})

const RoundState = describedEnum<RoundRow['state']>('RoundState', 'Whether a round has ended.', {
  RUNNING: 'Its figures grow.',
  DONE: 'Its figures are final.',
  FAILED: 'It broke off; the next one looks again at what it did not finish.',
})

const Round = builder.objectRef<RoundRow>('Round').implement({
  description: 'One pass of the copy over the disks, while the source runs (or over the remainder, while it is frozen).',
  fields: (t) => ({
    round: t.exposeInt('round', { description: 'Counted from 0 within an attempt.' }),
    attempt: t.exposeInt('attempt', { description: 'The attempt it belongs to.' }),
    mode: t.expose('mode', { type: RoundMode, description: 'What it looks at.' }),
    state: t.expose('state', { type: RoundState, description: 'Whether it has ended.' }),
    scannedBytes: t.expose('scannedBytes', { type: 'ByteCount', description: 'Bytes of the disks looked at so far.' }),
    totalBytes: t.expose('totalBytes', { type: 'ByteCount', description: 'Bytes of the disks it looks at in all.' }),
    changedBytes: t.expose('changedBytes', {
      type: 'ByteCount',
      description: 'Bytes in blocks of 64 KiB that differ from the destination.',
    }),
    bytesSent: t.expose('bytesSent', { type: 'ByteCount', description: 'Bytes sent to the destination, after compression.' }),
    verifiedBytes: t.expose('verifiedBytes', {
      type: 'ByteCount',
      description: 'Bytes that the destination has re-read from its own disk and found right.',
    }),
    durationMs: t.int({
      nullable: true,
      description: 'How long it took, in milliseconds, at most 2,147,483,647; null while it runs.',
      resolve: ({ durationMs }) => (durationMs === null ? null : cappedInt(durationMs)),
    }),
    startedAt: t.expose('startedAt', { type: 'DateTime', description: 'When it began.' }),
  }),
})

const RoundConnection = connectionType('Round', 'rounds', Round)

builder.objectFields(Migration, (t) => ({
  rounds: t.connection(
    {
      type: Round,
      description: 'Rounds of the present attempt, the first one first; `rounds(last: 5)` gives the newest ones.',
      complexity: pageComplexity,
      resolve: async (migration, args, { db }) => {
        checkPageSizes(args)
        const ofAttempt = and(eq(rounds.migrationId, migration.id), eq(rounds.attempt, migration.attempt))
        const [row] = await db.select({ rounds: count() }).from(rounds).where(ofAttempt)
        const totalCount = row?.rounds ?? 0
        const sizes = { first: args.first ?? (args.last == null ? limits.defaultPageSize : totalCount), last: args.last }
        // Rounds are only ever added at the end, so an offset stays where it is.
        const connection = await resolveOffsetConnection(
          { args: { ...args, ...sizes }, totalCount, maxSize: limits.pageSize },
          ({ offset, limit }) => db.select().from(rounds).where(ofAttempt).orderBy(rounds.round).limit(limit).offset(offset),
        )
        return { ...connection, totalCount: () => Promise.resolve(totalCount) }
      },
    },
    RoundConnection,
  ),
  currentRound: t.field({
    type: Round,
    nullable: true,
    description: 'The newest round of the present attempt; null before the first one.',
    resolve: async (migration, _, { db }) => {
      const ofAttempt = and(eq(rounds.migrationId, migration.id), eq(rounds.attempt, migration.attempt))
      return (await db.select().from(rounds).where(ofAttempt).orderBy(desc(rounds.round)).limit(1))[0] ?? null
    },
  }),
}))
