/**
 * Who did or attempted what, when, and what came of it. A mutation that changes something is written down in the transaction of its own changes, so neither is there without the
 * other; everything else (refused, failed, repeated) in a transaction of its own.
 *
 * Two control planes on one database: a write transaction holds the database's one write lock from its start, so whoever appends reads the end of the trail that the other left.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { randomUUID } from 'node:crypto'
import { desc, eq } from 'drizzle-orm'
import type { Database, Transaction } from '../database/client.ts'
import { apiTokens } from '../database/tables/api-token.ts'
import { auditEntries, auditHead } from '../database/tables/audit.ts'
import type { SealKey } from '../secrets/seal.ts'
import { withholdSecrets } from '../secrets/withhold-secrets.ts'
import { auditHash, auditOrigin, signPosition, type AuditPosition, type AuditRow } from './audit-chain.ts'
import { auditedErrorCode, outcomeOf } from './audit-outcome.ts'
import type { AuditWitness } from './audit-witness.ts'
import { canonicalJson } from './canonical-json.ts'
import type { Actor } from './operations.ts'

export interface AuditAttempt {
  /** Null where Portolan itself acts. */
  actor: Actor | null
  mutation: string
  /** As the client sent it; secrets are withheld here. */
  input: unknown
  /** What it is about, where the input names it. */
  subject?: { type: string; id: string } | undefined
}

export interface AuditTrail {
  /** Runs a mutation, and sees to it that it is in the trail when this settles. Its error is thrown on. */
  attempt<Result>(attempt: AuditAttempt, work: () => Promise<Result>): Promise<Result>
  /** Within the transaction of the mutation's own writes. `committed` has to hear of it once that is committed. */
  append(tx: Transaction, done: AuditAttempt & { answer: Record<string, string> }): Promise<AuditPosition>
  committed(position: AuditPosition, mutation: string): Promise<void>
  /** The mutation that runs was answered as the first time, and changed nothing. */
  repeated(): void
}

const longestInput = 16_384

export function createAuditTrail(dependencies: { database: Database; sealKey: SealKey; witness?: AuditWitness }): AuditTrail {
  const { database, sealKey, witness } = dependencies
  const running = new AsyncLocalStorage<{ attempt: AuditAttempt; recorded: boolean; repeated: boolean }>()

  type Result = Pick<AuditRow, 'outcome' | 'errorCode'> & { answer: Record<string, string> | null }
  async function write(tx: Transaction, attempt: AuditAttempt, { answer, ...result }: Result): Promise<AuditPosition> {
    const { actor, mutation, input } = attempt
    const [head = auditOrigin] = await tx.select().from(auditEntries).orderBy(desc(auditEntries.sequence)).limit(1)
    const [token] = actor ? await tx.select({ name: apiTokens.name }).from(apiTokens).where(eq(apiTokens.id, actor.tokenId)) : []
    const subject = subjectOf(answer) ?? attempt.subject
    const row = {
      id: randomUUID(),
      sequence: head.sequence + 1,
      at: new Date(),
      tokenId: actor?.tokenId ?? null,
      tokenName: token?.name ?? null,
      role: actor?.role ?? null,
      mutation,
      subjectType: subject ? storable(subject.type) : null,
      subjectId: subject ? storable(subject.id) : null,
      idempotencyKey: keyOf(input),
      input: inputText(input),
      ...result,
      answer: answer && canonicalJson(answer),
      previousHash: head.hash,
    }
    const position = { sequence: row.sequence, hash: auditHash(row) }
    await tx.insert(auditEntries).values({ ...row, hash: position.hash })
    const end = { ...position, signature: signPosition(sealKey, position) }
    // The triggers refuse a second head, so it is inserted with the first entry only.
    if (row.sequence === 1) await tx.insert(auditHead).values({ id: 1, ...end })
    else await tx.update(auditHead).set(end)
    return position
  }

  async function record(attempt: AuditAttempt, result: Result): Promise<void> {
    const position = await database.transaction((tx) => write(tx, attempt, result))
    await witness?.note(position)
  }

  return {
    attempt: (attempt, work) => {
      const state = { attempt, recorded: false, repeated: false }
      return running.run(state, async () => {
        try {
          const result = await work()
          if (!state.recorded) await record(attempt, { outcome: state.repeated ? 'REPEATED' : 'DONE', errorCode: null, answer: null })
          return result
        } catch (error) {
          const errorCode = auditedErrorCode(error)
          await record(attempt, { outcome: outcomeOf(errorCode), errorCode, answer: null })
          throw error
        }
      })
    },
    append: (tx, { answer, ...done }) => {
      // As the client sent it, where a client did.
      const sent = running.getStore()?.attempt
      return write(tx, sent?.mutation === done.mutation ? sent : done, { outcome: 'DONE', errorCode: null, answer })
    },
    async committed(position, mutation) {
      const state = running.getStore()
      if (state?.attempt.mutation === mutation) state.recorded = true
      await witness?.note(position)
    },
    repeated() {
      const state = running.getStore()
      if (state) state.repeated = true
    },
  }
}

/** `{migrationId}` is about a Migration. */
function subjectOf(answer: Record<string, string> | null): { type: string; id: string } | undefined {
  const [name, id] = Object.entries(answer ?? {}).find(([key]) => key.endsWith('Id')) ?? []
  return name && id ? { type: `${name[0]?.toUpperCase()}${name.slice(1, -2)}`, id } : undefined
}

function keyOf(input: unknown): string | null {
  if (typeof input !== 'object' || input === null || !('idempotencyKey' in input)) return null
  return typeof input.idempotencyKey === 'string' ? storable(input.idempotencyKey.slice(0, 200)) : null
}

/**
 * A client's text as the database gives it back, for the hash is of what is read: UTF-8 has no halves of surrogate pairs, and what follows a NUL is not read. Texts inside JSON are
 * escaped.
 */
function storable(text: string): string {
  return text.toWellFormed().replaceAll('\0', '\ufffd')
}

/** What a refused client sends may be long, and the trail keeps it for ever. */
function inputText(input: unknown): string {
  const text = canonicalJson(withholdSecrets(input))
  return text.length <= longestInput ? text : canonicalJson({ tooLong: `${text.length} characters` })
}
