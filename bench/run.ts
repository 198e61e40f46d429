/** `npm run bench -- NAME [--json]`: runs bench/NAME.ts, whose last line on standard output is its figures as one JSON object. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

const names = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith('.ts') && file !== 'run.ts')
  .map((file) => file.replace('.ts', ''))
const [name] = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
if (name === undefined || !names.includes(name)) {
  process.stderr.write(`usage: npm run bench -- NAME [--json], NAME one of: ${names.join(', ')}\n`)
  process.exitCode = 2
} else {
  const bench = (await import(join(import.meta.dirname, `${name}.ts`))) as {
    default: (options: { json: boolean; signal: AbortSignal }) => Promise<void>
  }
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop.abort(new Error(`ended by ${signal}`)))
  try {
    await bench.default({ json: process.argv.includes('--json'), signal: stop.signal })
  } catch (error) {
    process.stderr.write(`bench ${name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
    process.exitCode = 1
  }
}
