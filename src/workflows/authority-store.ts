import { eq } from 'drizzle-orm'
import type { AuthorityStore } from '../agent-gateway/authority-store.ts'
import type { Database } from '../database/client.ts'
import { migrationSecrets } from '../database/tables/migration.ts'

/** Keeps what the agent gateway must not lose over a restart; sealed by the gateway. */
export function createAuthorityStore(database: Database): AuthorityStore {
  return {
    async save(migrationId, sealed) {
      await database.write((orm) => [
        orm
          .insert(migrationSecrets)
          .values({ migrationId, sealed })
          .onConflictDoUpdate({ target: migrationSecrets.migrationId, set: { sealed } }),
      ])
    },
    async load(migrationId) {
      const [row] = await database.select().from(migrationSecrets).where(eq(migrationSecrets.migrationId, migrationId))
      return row?.sealed ?? null
    },
    async delete(migrationId) {
      await database.write((orm) => [orm.delete(migrationSecrets).where(eq(migrationSecrets.migrationId, migrationId))])
    },
  }
}
