/** Prints the schema, or with `--check` fails when schema/schema.graphql is not what would be printed. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { lexicographicSortSchema, printSchema } from 'graphql'
import { schema } from './index.ts'

const printed = `${printSchema(lexicographicSortSchema(schema))}\n`
const file = join(import.meta.dirname, 'schema.graphql')

if (process.argv.includes('--check')) {
  if (readFileSync(file, 'utf8') !== printed) {
    process.stderr.write(
      'schema/schema.graphql is not what the code says; run `npm run schema` and read the difference before you commit it.\n',
    )
    process.exitCode = 1
  }
} else {
  process.stdout.write(printed)
}
