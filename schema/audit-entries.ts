import { encodeGlobalID } from '@pothos/plugin-relay'
import { and, eq, gte, lt } from 'drizzle-orm'
import { auditEntries } from '../src/database/tables/audit.ts'
import { anyOf } from './any-of.ts'
import { ApiToken } from './api-tokens.ts'
import { builder } from './builder.ts'
import { connectionType } from './connection-type.ts'
import { page, pageComplexity, type RowOrder } from './connection.ts'
import { describedEnum } from './described-enum.ts'
import { decodedId, rowIdOf } from './global-id.ts'
import { invalidInput } from './invalid-input.ts'
import { limits } from './limits.ts'
import { Role } from './role.ts'
import { rowNode } from './row-node.ts'

type Row = typeof auditEntries.$inferSelect

const AuditOutcome = describedEnum<Row['outcome']>('AuditOutcome', 'What came of a mutation that was sent.', {
  DONE: 'It was done; long work that it began goes on by itself.',
  REPEATED: 'It was sent before under the same idempotency key, got that answer again, and changed nothing.',
  REFUSED: 'It was refused, and changed nothing; `errorCode` says why.',
  FAILED: 'It failed, and may have had an effect before it did; `errorCode` says how.',
})

const AuditEntry = rowNode('AuditEntry', auditEntries)
AuditEntry.implement({
  description:
    'A mutation that somebody sent: who, what, when, and what came of it. Entries are only ever added; each holds the hash of the one before, and `npm run audit -- verify` proves that none was changed. For admins.',
  authScopes: { admin: true },
  fields: (t) => ({
    sequence: t.exposeInt('sequence', { description: 'Its place in the trail: 1, 2, 3, and so on without a gap.' }),
    at: t.expose('at', { type: 'DateTime', description: 'When it was written down: with its effect, in one transaction.' }),
    tokenName: t.exposeString('tokenName', {
      nullable: true,
      description: 'What the token was called then; null where Portolan itself acted.',
    }),
    apiToken: t.field({
      type: ApiToken,
      nullable: true,
      description: 'The token that sent it; null where Portolan itself acted.',
      resolve: ({ tokenId }) => tokenId,
    }),
    role: t.expose('role', { type: Role, nullable: true, description: 'What the token allowed then; null where Portolan itself acted.' }),
    mutation: t.exposeString('mutation', { description: "The mutation's name, such as `startMigration`." }),
    subjectId: t.id({
      nullable: true,
      description: 'The `id` of what it was about, for `node`; null where it named nothing.',
      resolve: ({ subjectType, subjectId }) => (subjectType && subjectId ? encodeGlobalID(subjectType, subjectId) : null),
    }),
    idempotencyKey: t.exposeString('idempotencyKey', { nullable: true, description: 'The key that was sent; null where there was none.' }),
    input: t.field({
      type: 'JSON',
      nullable: true,
      description: 'The input as it was sent, credentials and plugin options withheld; null where there was none.',
      resolve: (entry): unknown => JSON.parse(entry.input),
    }),
    outcome: t.expose('outcome', { type: AuditOutcome, description: 'What came of it.' }),
    errorCode: t.exposeString('errorCode', {
      nullable: true,
      description:
        'The code that the client was answered with, such as `FORBIDDEN` or a value of `ErrorCode`; null where there was no error.',
    }),
    hash: t.exposeString('hash', { description: 'SHA-256 over all of the entry and `previousHash`: 64 hexadecimal digits.' }),
    previousHash: t.exposeString('previousHash', { description: 'The hash of the entry before it; 64 zeros in the first.' }),
  }),
})

const AuditEntryConnection = connectionType('AuditEntry', 'audit entries', AuditEntry)

const orders = {
  NEWEST_FIRST: { column: auditEntries.sequence, direction: 'DESC' },
  OLDEST_FIRST: { column: auditEntries.sequence, direction: 'ASC' },
} satisfies Record<string, RowOrder>

const AuditEntryOrder = describedEnum<keyof typeof orders>('AuditEntryOrder', 'Orders of audit entries.', {
  NEWEST_FIRST: 'The last one first.',
  OLDEST_FIRST: 'As they happened.',
})

const AuditEntryFilter = builder.inputType('AuditEntryFilter', {
  description: 'Which entries: those that meet every condition given.',
  fields: (t) => ({
    apiTokenId: t.id({ description: 'Sent with this token.' }),
    mutations: t.stringList({ description: `Of any of these mutations, ${limits.filterValues} different ones at most.` }),
    outcomes: t.field({ type: [AuditOutcome], description: 'With any of these outcomes.' }),
    subjectId: t.id({ description: 'About the object with this `id`.' }),
    since: t.field({ type: 'DateTime', description: 'At this moment or later.' }),
    before: t.field({ type: 'DateTime', description: 'Before this moment.' }),
  }),
})

builder.queryField('auditEntries', (t) =>
  t.connection(
    {
      type: AuditEntry,
      authScopes: { admin: true },
      description: 'The audit trail. For admins.',
      complexity: pageComplexity,
      args: {
        filter: t.arg({ type: AuditEntryFilter, description: 'Leave away for all.' }),
        orderBy: t.arg({
          type: AuditEntryOrder,
          defaultValue: 'NEWEST_FIRST',
          required: true,
          description: 'Newest first unless said otherwise.',
        }),
      },
      resolve: (_, args, { db }) => {
        const { filter } = args
        return page<Row>(db, auditEntries, {
          args,
          where: [
            filter?.apiTokenId ? eq(auditEntries.tokenId, rowIdOf('ApiToken', filter.apiTokenId, ['filter', 'apiTokenId'])) : undefined,
            anyOf(auditEntries.mutation, filter?.mutations, ['filter', 'mutations']),
            anyOf(auditEntries.outcome, filter?.outcomes, ['filter', 'outcomes']),
            filter?.subjectId ? about(filter.subjectId) : undefined,
            filter?.since ? gte(auditEntries.at, filter.since) : undefined,
            filter?.before ? lt(auditEntries.at, filter.before) : undefined,
          ],
          order: orders[args.orderBy],
          orderValue: (row) => row.sequence,
        })
      },
    },
    AuditEntryConnection,
  ),
)

function about(globalId: string) {
  const subject = decodedId(globalId)
  if (!subject) throw invalidInput('is no id of this API', ['filter', 'subjectId'])
  return and(eq(auditEntries.subjectType, subject.typename), eq(auditEntries.subjectId, subject.id))
}
