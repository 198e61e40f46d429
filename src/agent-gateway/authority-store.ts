/** Keeps a migration's sealed authority (keys, tokens, bindings) over a restart. The database has the real one. */
export interface AuthorityStore {
  /** Durable when it returns. Replaces what was there. */
  save(migrationId: string, sealedJson: string): Promise<void>
  load(migrationId: string): Promise<string | null>
  /** Deleting what is not there is a success. */
  delete(migrationId: string): Promise<void>
}

/** For tests, and for a control plane that may lose its migrations. */
export function memoryAuthorityStore(): AuthorityStore {
  const sealed = new Map<string, string>()
  return {
    async save(migrationId, sealedJson) {
      sealed.set(migrationId, sealedJson)
    },
    async load(migrationId) {
      return sealed.get(migrationId) ?? null
    },
    async delete(migrationId) {
      sealed.delete(migrationId)
    },
  }
}
