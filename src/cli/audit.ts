/**
 * `npm run audit -- verify [--config portolan.config.ts]`: looks through the audit trail, and names the first entry that is not as it was written. Exit code 0 only when all is sound;
 * 1 when something is not, 2 when it could not look, or there was nothing to look at.
 *
 * It reads the database, the seal key and the witness file themselves, since the control plane's own word is what it checks; a control plane may run meanwhile.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { loadConfiguration } from '../configuration.ts'
import { openDatabase } from '../database/client.ts'
import { openSealKey } from '../secrets/seal.ts'
import { verifyAuditTrail } from '../workflows/audit-verify.ts'
import { readAuditWitness } from '../workflows/audit-witness.ts'

const usage = 'usage: npm run audit -- verify [--config portolan.config.ts]'

try {
  process.exitCode = await run()
} catch (error) {
  process.stderr.write(`audit: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 2
}

async function run(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: { config: { type: 'string', default: 'portolan.config.ts' } },
    allowPositionals: true,
  })
  if (positionals.join(' ') !== 'verify') throw new Error(usage)
  const { dataDirectory } = await loadConfiguration(values.config)
  requireTrail(dataDirectory)
  const witness = await readAuditWitness(dataDirectory)
  const sealKey = await openSealKey({ dataDirectory, env: process.env })
  const database = await openDatabase({ url: process.env['DATABASE_URL'], dataDirectory })
  try {
    const { entries, broken } = await verifyAuditTrail({ database, sealKey, witness })
    if (!broken && entries === 0)
      throw new Error(
        'the audit trail is empty, and the first start of a control plane always writes an entry: see that this is the right database.',
      )
    if (!broken) {
      process.stdout.write(
        `audit: all ${entries} entries are as they were written${witness ? '' : '; there is no witness file beside this database, so a trail that was deleted whole could not be told'}.\n`,
      )
      return 0
    }
    process.stdout.write(`audit: entry ${broken.sequence} is broken: ${broken.problem}. The ${entries} entries before it are sound.\n`)
    return 1
  } finally {
    await database.close()
  }
}

/** What is opened is made where it is not there: an empty database would pass for a sound one, and with a new key no trail could be judged. */
function requireTrail(dataDirectory: string): void {
  const { DATABASE_URL: url, PORTOLAN_SEAL_KEY: givenKey } = process.env
  const database = join(dataDirectory, 'portolan.db')
  const key = join(dataDirectory, 'seal.key')
  if (!url && !existsSync(database))
    throw new Error(`there is no database ${database}, and DATABASE_URL is not set, so there is no audit trail to look through.`)
  if (url && !givenKey && !existsSync(key))
    throw new Error(
      `there is no seal key ${key}, and PORTOLAN_SEAL_KEY is not set, so nobody can tell whether the end of the trail is signed with it.`,
    )
}
