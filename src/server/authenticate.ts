import { and, eq, isNull } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { apiTokens } from '../database/tables/api-token.ts'
import { hashApiToken } from '../secrets/api-token.ts'
import type { Actor } from '../workflows/operations.ts'

export type Authenticate = (authorization: unknown) => Promise<Actor | null>

/** Gives who an `Authorization: Bearer …` value belongs to, or null for everything else. The database decides each time, so a revoked token ends at once. */
export function createAuthenticate(db: Pick<Database, 'select'>): Authenticate {
  return async (authorization) => {
    const token = typeof authorization === 'string' ? /^Bearer +([\x21-\x7e]{1,200})$/i.exec(authorization)?.[1] : undefined
    if (token === undefined) return null
    const [row] = await db
      .select({ tokenId: apiTokens.id, role: apiTokens.role })
      .from(apiTokens)
      .where(and(eq(apiTokens.hash, hashApiToken(token)), isNull(apiTokens.revokedAt)))
    return row ?? null
  }
}
