/**
 * Another control plane's writes to a trail. Arguments: data directory, how many entries, what their keys begin with. It
 * says that it is ready on standard error, begins when standard input ends, and prints what its witness complained of.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { auditedDatabase, somebody } from './audited-database.ts'

const [directory = '', count = '0', prefix = ''] = process.argv.slice(2)
const witnessDirectory = join(directory, prefix)
await mkdir(witnessDirectory)
const trail = await auditedDatabase(directory, witnessDirectory)
process.stderr.write('ready\n')
for await (const _ of process.stdin);
for (let index = 0; index < Number(count); index++)
  await trail.idempotency.once(somebody, 'pauseMigration', { idempotencyKey: `${prefix}-${index}` }, (commit) =>
    commit(async () => ({ migrationId: prefix }), []),
  )
process.stdout.write(trail.problems.join('\n'))
await trail.remove()
