/**
 * The same key with the same input answers as the first time; with another input it is refused. Keys belong to a token. An answer is kept for `answersKeptMs`; after that the
 * audit trail still knows the key, which is refused then, so that no request is ever carried out twice.
 */
import { createHash } from 'node:crypto'
import { and, eq, isNotNull, lt } from 'drizzle-orm'
import type { Change, Database, Transaction } from '../database/client.ts'
import { apiTokens } from '../database/tables/api-token.ts'
import { auditEntries } from '../database/tables/audit.ts'
import { idempotencyKeys } from '../database/tables/idempotency-key.ts'
import { PortolanError } from '../domain/errors.ts'
import type { SealKey } from '../secrets/seal.ts'
import { createAuditTrail, type AuditTrail } from './audit-trail.ts'
import { canonicalJson } from './canonical-json.ts'
import type { Actor } from './operations.ts'

const answersKeptMs = 7 * 86_400_000

type Answer = Record<string, string>

export interface Idempotency {
  /**
   * Runs `work` unless the key was used. Its writes go through `commit`, in one transaction with the key and the entry in the audit trail: when two requests with one key
   * come at once, the second one's writes are undone, and it gets the first one's answer. Of a token that was revoked by then nothing is written.
   */
  once<A extends Answer>(
    actor: Actor,
    mutation: string,
    input: { idempotencyKey: string },
    work: (commit: (write: (tx: Transaction) => Promise<A>, changed: Change[]) => Promise<A>) => Promise<A>,
  ): Promise<A>
}

export function createIdempotency(
  database: Database,
  sealKey: SealKey,
  audit: AuditTrail = createAuditTrail({ database, sealKey }),
): Idempotency {
  async function earlier(actor: Actor, mutation: string, key: string, inputHash: string): Promise<Answer | null> {
    const [row] = await database
      .select()
      .from(idempotencyKeys)
      .where(and(eq(idempotencyKeys.tokenId, actor.tokenId), eq(idempotencyKeys.key, key)))
    if (!row) return requireNeverUsed(actor, key)
    if (row.mutation !== mutation || sealKey.unseal(row.inputHash, hashContext(actor, key)) !== inputHash)
      throw reused(`The idempotency key ${JSON.stringify(key)} was used for another request; nothing was done.`)
    return row.answer
  }

  async function requireNeverUsed(actor: Actor, key: string): Promise<null> {
    const [used] = await database
      .select({ at: auditEntries.at, mutation: auditEntries.mutation })
      .from(auditEntries)
      .where(and(eq(auditEntries.tokenId, actor.tokenId), eq(auditEntries.idempotencyKey, key), isNotNull(auditEntries.answer)))
      .limit(1)
    if (!used) return null
    throw reused(
      `The idempotency key ${JSON.stringify(key)} was used for ${used.mutation} at ${used.at.toISOString()}, so long ago that the answer is no longer kept; nothing was done.`,
    )
  }

  return {
    async once<A extends Answer>(
      actor: Actor,
      mutation: string,
      input: { idempotencyKey: string },
      work: (commit: (write: (tx: Transaction) => Promise<A>, changed: Change[]) => Promise<A>) => Promise<A>,
    ): Promise<A> {
      const { idempotencyKey: key, ...rest } = input
      const inputHash = createHash('sha256').update(canonicalJson(rest)).digest('hex')
      const known = await earlier(actor, mutation, key, inputHash)
      if (known) {
        audit.repeated()
        return known as A
      }
      try {
        return await work(async (write, changed) => {
          const { answer, position } = await database.transaction(async (tx) => {
            await requireNotRevoked(tx, actor)
            const answer = await write(tx)
            // Sealed, since an input may hold credentials, and a bare hash of a weak one could be guessed.
            const sealedHash = sealKey.seal(inputHash, hashContext(actor, key))
            await tx
              .insert(idempotencyKeys)
              .values({ tokenId: actor.tokenId, key, mutation, inputHash: sealedHash, answer, createdAt: new Date() })
            await tx.delete(idempotencyKeys).where(lt(idempotencyKeys.createdAt, new Date(Date.now() - answersKeptMs)))
            return { answer, position: await audit.append(tx, { actor, mutation, input, answer }) }
          }, changed)
          await audit.committed(position, mutation)
          return answer
        })
      } catch (error) {
        const answer = await earlier(actor, mutation, key, inputHash)
        if (!answer) throw error
        audit.repeated()
        return answer as A
      }
    },
  }
}

/** A request may be let in long before its writes: its token counts when they are made. */
async function requireNotRevoked(tx: Transaction, { tokenId }: Actor): Promise<void> {
  const [revoked] = await tx
    .select({ id: apiTokens.id })
    .from(apiTokens)
    .where(and(eq(apiTokens.id, tokenId), isNotNull(apiTokens.revokedAt)))
  if (!revoked) return
  throw new PortolanError('NOT_ALLOWED_NOW', 'The token was revoked; nothing was changed.', {
    retryable: false,
    remedy: 'Send the request with another token.',
  })
}

function hashContext(actor: Actor, key: string): string {
  return `idempotency/${actor.tokenId}/${key}`
}

function reused(message: string): PortolanError {
  return new PortolanError('IDEMPOTENCY_KEY_REUSED', message, {
    retryable: false,
    remedy: 'Use a new key for each request, and the same key only to repeat one.',
    path: ['input', 'idempotencyKey'],
  })
}
