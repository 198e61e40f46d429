import { randomUUID } from 'node:crypto'
import { and, eq, isNull } from 'drizzle-orm'
import type { Transaction } from '../database/client.ts'
import { apiTokens } from '../database/tables/api-token.ts'
import { PortolanError } from '../domain/errors.ts'
import { newApiToken } from '../secrets/api-token.ts'
import { translated } from './failure.ts'
import type { Idempotency } from './idempotency.ts'
import type { Operations } from './operations.ts'

export type ApiTokenOperations = Pick<Operations, 'createApiToken' | 'revokeApiToken'>

/** Of `once`, whose answers are records of strings. */
type TokenAnswer = { apiTokenId: string }

export function createApiTokenOperations({ idempotency }: { idempotency: Idempotency }): ApiTokenOperations {
  return {
    createApiToken: (actor, input) =>
      translated(async () => {
        const { token, hash } = newApiToken()
        const id = randomUUID()
        const { apiTokenId } = await idempotency.once<TokenAnswer>(actor, 'createApiToken', input, async (commit) => {
          const { name, role } = input
          requireName(name)
          return commit(async (tx) => {
            await tx.insert(apiTokens).values({ id, name, role, hash, createdAt: new Date() })
            return { apiTokenId: id }
          }, [])
        })
        return { apiTokenId, token: apiTokenId === id ? token : null }
      }),

    revokeApiToken: (actor, input) =>
      translated(() =>
        idempotency.once<TokenAnswer>(actor, 'revokeApiToken', input, (commit) =>
          commit(
            async (tx) => {
              await requireRevocable(tx, input.apiTokenId)
              await tx
                .update(apiTokens)
                .set({ revokedAt: new Date() })
                .where(and(eq(apiTokens.id, input.apiTokenId), isNull(apiTokens.revokedAt)))
              return { apiTokenId: input.apiTokenId }
            },
            [{ topic: 'API_TOKEN', subject: input.apiTokenId }],
          ),
        ),
      ),
  }
}

function requireName(name: string): void {
  if (/^[^\p{C}]{1,100}$/u.test(name) && name.trim() === name) return
  throw new PortolanError(
    'INVALID_INPUT',
    'The name of a token is 1 to 100 visible characters, without a space at its ends; no token was made.',
    { retryable: false, remedy: 'Choose another name; nothing was made.', path: ['input', 'name'] },
  )
}

async function requireRevocable(tx: Transaction, apiTokenId: string): Promise<void> {
  const path = ['input', 'apiTokenId']
  const [token] = await tx.select().from(apiTokens).where(eq(apiTokens.id, apiTokenId))
  if (!token)
    throw new PortolanError('NOT_FOUND', 'There is no token with this id; nothing was changed.', {
      retryable: false,
      remedy: 'Read the ids from `apiTokens`.',
      path,
    })
  const admins = await tx
    .select({ id: apiTokens.id })
    .from(apiTokens)
    .where(and(eq(apiTokens.role, 'ADMIN'), isNull(apiTokens.revokedAt)))
  if (admins.length === 1 && admins[0]?.id === apiTokenId)
    throw new PortolanError('CONFLICT', "This is the last admin's token, and without one nobody could make another; it stays valid.", {
      retryable: false,
      remedy: 'Make another admin token first, and revoke this one with it.',
      path,
    })
}
