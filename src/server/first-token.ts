import { randomUUID } from 'node:crypto'
import type { Database } from '../database/client.ts'
import { apiTokens } from '../database/tables/api-token.ts'
import { newApiToken } from '../secrets/api-token.ts'

/**
 * At the first start on a database: makes an admin's token and gives it, to be shown once, since only its hash is stored. Later, null.
 * Two control planes that start at once on a new database make one between them.
 */
export async function ensureFirstToken(db: Database): Promise<string | null> {
  const { token, hash } = newApiToken()
  return db.transaction(async (tx) => {
    const existing = await tx.select({ id: apiTokens.id }).from(apiTokens).limit(1)
    if (existing.length > 0) return null
    await tx.insert(apiTokens).values({ id: randomUUID(), name: 'first admin', role: 'ADMIN', hash, createdAt: new Date() })
    return token
  })
}
