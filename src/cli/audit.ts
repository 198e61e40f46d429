/**
 * `npm run audit -- verify [--config portolan.config.ts]`: looks through the audit trail, and names the first entry that is not as it was written. Exit code 0 only when all is sound.
 *
 * It reads the database, the seal key and the witness file themselves, since the control plane's own word is what it checks; a control plane may run meanwhile.
 */
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
  const witness = await readAuditWitness(dataDirectory)
  const sealKey = await openSealKey({ dataDirectory, env: process.env })
  const database = await openDatabase({ url: process.env['DATABASE_URL'], dataDirectory })
  try {
    const { entries, broken } = await verifyAuditTrail({ database, sealKey, witness })
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
