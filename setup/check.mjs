/** `npm run check`: everything that can be said of the tree without running it, side by side. Prints only what failed, and a line for each. */
import { spawn } from 'node:child_process'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const bin = (name) => `${root}/node_modules/.bin/${name}`
const checks = [
  { name: 'types', command: [bin('tsc'), '--noEmit', '-p', '.'] },
  { name: 'lint', command: [bin('oxlint'), '--type-aware', 'src', 'schema', 'plugins', 'test', 'bench', 'setup'] },
  { name: 'format', command: [bin('oxfmt'), '--check', '.'] },
  { name: 'dead code', command: [bin('node'), bin('knip'), '--no-progress'] },
  { name: 'schema drift', command: [bin('node'), 'schema/print.ts', '--check'] },
  { name: 'layout', command: [bin('vitest'), 'run', '--project', 'unit', 'test/layout.test.ts', '--reporter=dot'] },
]

const results = await Promise.all(checks.map(run))
for (const { name, code, output, durationMs } of results) {
  if (code !== 0) process.stdout.write(`${output.trimEnd()}\n`)
  process.stdout.write(`${code === 0 ? 'ok    ' : 'FAILED'} ${name} (${(durationMs / 1000).toFixed(1)} s)\n`)
}
process.exitCode = results.every((result) => result.code === 0) ? 0 : 1

function run({ name, command }) {
  const started = performance.now()
  return new Promise((done) => {
    const child = spawn(command[0], command.slice(1), {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, PATH: `${root}/node_modules/.bin:${process.env.PATH}` },
    })
    let output = ''
    child.stdout.on('data', (chunk) => (output += chunk))
    child.stderr.on('data', (chunk) => (output += chunk))
    child.on('error', (error) => done({ name, code: 1, output: error.message, durationMs: performance.now() - started }))
    child.on('close', (code) => done({ name, code, output, durationMs: performance.now() - started }))
  })
}
