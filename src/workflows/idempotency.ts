/** The same key with the same input answers as the first time; with another input it is refused. Keys belong to a token. */
import { createHash } from 'node:crypto'
import { and, eq } from 'drizzle-orm'
import type { Change, Database, Transaction } from '../database/client.ts'
import { idempotencyKeys } from '../database/tables/idempotency-key.ts'
import { PortolanError } from '../domain/errors.ts'
import type { SealKey } from '../secrets/seal.ts'
import type { Actor } from './operations.ts'

type Answer = Record<string, string>

export interface Idempotency {
  /**
   * Runs `work` unless the key was used. Its writes go through `commit`, in one transaction with the key: when two requests with one key come at once, the second
   * one's writes are undone, and it gets the first one's answer.
   */
  once<A extends Answer>(
    actor: Actor,
    mutation: string,
    input: { idempotencyKey: string },
    work: (commit: (write: (tx: Transaction) => Promise<A>, changed: Change[]) => Promise<A>) => Promise<A>,
  ): Promise<A>
}

export function createIdempotency(database: Database, sealKey: SealKey): Idempotency {
  async function earlier(actor: Actor, mutation: string, key: string, inputHash: string): Promise<Answer | null> {
    const [row] = await database
      .select()
      .from(idempotencyKeys)
      .where(and(eq(idempotencyKeys.tokenId, actor.tokenId), eq(idempotencyKeys.key, key)))
    if (!row) return null
    if (row.mutation !== mutation || sealKey.unseal(row.inputHash, hashContext(actor, key)) !== inputHash)
      throw new PortolanError(
        'IDEMPOTENCY_KEY_REUSED',
        `The idempotency key ${JSON.stringify(key)} was used for another request; nothing was done.`,
        {
          retryable: false,
          remedy: 'Use a new key for each request, and the same key only to repeat one.',
          path: ['input', 'idempotencyKey'],
        },
      )
    return row.answer
  }

  return {
    async once<A extends Answer>(
      actor: Actor,
      mutation: string,
      input: { idempotencyKey: string },
      work: (commit: (write: (tx: Transaction) => Promise<A>, changed: Change[]) => Promise<A>) => Promise<A>,
    ): Promise<A> {
      const { idempotencyKey: key, ...rest } = input
      const inputHash = createHash('sha256').update(canonical(rest)).digest('hex')
      const known = await earlier(actor, mutation, key, inputHash)
      if (known) return known as A
      try {
        return await work((write, changed) =>
          database.transaction(async (tx) => {
            const answer = await write(tx)
            // Sealed, since an input may hold credentials, and a bare hash of a weak one could be guessed.
            const sealedHash = sealKey.seal(inputHash, hashContext(actor, key))
            await tx
              .insert(idempotencyKeys)
              .values({ tokenId: actor.tokenId, key, mutation, inputHash: sealedHash, answer, createdAt: new Date() })
            return answer
          }, changed),
        )
      } catch (error) {
        const answer = await earlier(actor, mutation, key, inputHash)
        if (answer) return answer as A
        throw error
      }
    },
  }
}

function hashContext(actor: Actor, key: string): string {
  return `idempotency/${actor.tokenId}/${key}`
}

/** The same text for the same value, whatever the order of its keys. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    inner !== null && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}
