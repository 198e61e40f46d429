import { randomUUID } from 'node:crypto'
import type { Database } from '../database/client.ts'
import { apiTokens } from '../database/tables/api-token.ts'
import { newApiToken } from '../secrets/api-token.ts'
import type { AuditTrail } from '../workflows/audit-trail.ts'

/**
 * At the first start on a database: makes an admin's token and gives it, to be shown once, since only its hash is stored. Later, null.
 * Two control planes that start at once on a new database make one between them.
 */
export async function ensureFirstToken(db: Database, audit: Pick<AuditTrail, 'append' | 'committed'>): Promise<string | null> {
  const { token, hash } = newApiToken()
  const name = 'first admin'
  const made = await db.transaction(async (tx) => {
    const existing = await tx.select({ id: apiTokens.id }).from(apiTokens).limit(1)
    if (existing.length > 0) return null
    const id = randomUUID()
    await tx.insert(apiTokens).values({ id, name, role: 'ADMIN', hash, createdAt: new Date() })
    return audit.append(tx, { actor: null, mutation: 'createApiToken', input: { name, role: 'ADMIN' }, answer: { apiTokenId: id } })
  })
  if (!made) return null
  await audit.committed(made, 'createApiToken')
  return token
}
