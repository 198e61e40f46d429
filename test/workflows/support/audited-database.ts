/** A database with an audit trail in a directory of its own, and a way past the program to what it stored. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { createClient } from '@libsql/client'
import { openDatabase, type Database } from '../../../src/database/client.ts'
import { openSealKey } from '../../../src/secrets/seal.ts'
import { createAuditTrail } from '../../../src/workflows/audit-trail.ts'
import { verifyAuditTrail } from '../../../src/workflows/audit-verify.ts'
import { createAuditWitness, readAuditWitness } from '../../../src/workflows/audit-witness.ts'
import { createIdempotency, type Idempotency } from '../../../src/workflows/idempotency.ts'
import type { Actor } from '../../../src/workflows/operations.ts'

export const somebody: Actor = { tokenId: 'token-1', role: 'OPERATOR' }

/** Control planes that share a database each have a data directory, and a witness in it. */
export async function auditedDatabase(existingDirectory?: string, witnessDirectory = existingDirectory) {
  const directory = existingDirectory ?? (await mkdtemp(join(tmpdir(), 'portolan-audit-')))
  const sealKey = await openSealKey({ dataDirectory: directory, env: {} })
  const database: Database = await openDatabase({ dataDirectory: directory })
  const problems: string[] = []
  const audit = createAuditTrail({
    database,
    sealKey,
    witness: createAuditWitness(witnessDirectory ?? directory, database, (message) => problems.push(message)),
  })
  const idempotency: Idempotency = createIdempotency(database, sealKey, audit)
  const configuration = join(directory, 'portolan.config.json')
  await writeFile(configuration, JSON.stringify({ dataDirectory: '.', plugins: [] }))
  return {
    directory,
    configuration,
    database,
    audit,
    idempotency,
    /** What the witness complained of. */
    problems,
    /** Writes so many entries. */
    async fill(count: number) {
      for (let index = 1; index <= count; index++)
        await idempotency.once(somebody, 'pauseMigration', { idempotencyKey: `key-${index}` }, (commit) =>
          commit(async () => ({ migrationId: `m${index}` }), []),
        )
    },
    verify: async () => verifyAuditTrail({ database, sealKey, witness: await readAuditWitness(directory) }),
    /** As somebody who has the database in their hands: the triggers are taken away first. */
    async tamper(...statements: string[]) {
      const client = createClient({ url: pathToFileURL(join(directory, 'portolan.db')).href })
      const { rows } = await client.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'audit%'")
      for (const { name } of rows) await client.execute(`DROP TRIGGER ${name as string}`)
      for (const statement of statements) await client.execute(statement)
      client.close()
    },
    async remove() {
      await database.close()
      if (!existingDirectory) await rm(directory, { recursive: true, force: true })
    },
  }
}

export type AuditedDatabase = Awaited<ReturnType<typeof auditedDatabase>>
