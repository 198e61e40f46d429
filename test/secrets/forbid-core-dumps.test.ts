import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'

const forbidding = fileURLToPath(new URL('../../src/secrets/forbid-core-dumps.ts', import.meta.url))
let directory: string
beforeEach(async () => void (directory = await mkdtemp(join(tmpdir(), 'portolan-core-'))))
afterEach(() => rm(directory, { recursive: true }))

/** Runs the program where core files are allowed, as far as this machine allows them, and gives what it printed before it died. */
async function run(program: string): Promise<string> {
  const shell = ['-c', 'ulimit -S -c "$(ulimit -H -c)"; exec "$0" --input-type=module-typescript -e "$1"', process.execPath, program]
  try {
    return (await promisify(execFile)('sh', shell, { cwd: directory })).stdout
  } catch (error) {
    const { signal, code, stdout } = error as { signal?: string; code?: number; stdout: string }
    expect([signal, code]).toContain(code === 134 ? 134 : 'SIGABRT')
    return stdout
  }
}

const forbid = `import { forbidCoreDumps } from ${JSON.stringify(forbidding)}; import { spawnSync } from 'node:child_process'; import { readFileSync } from 'node:fs'
const problem = forbidCoreDumps();`

test('neither the process nor its children leave a core file', async (context) => {
  await run('process.abort()')
  const withoutIt = await readdir(directory)
  // Where cores go elsewhere, or nowhere at all, this machine can't show the difference; the limits below it can.
  if ((await readFile('/proc/sys/kernel/core_pattern', 'utf8')).trim() === 'core') expect(withoutIt).toHaveLength(1)
  for (const file of withoutIt) await rm(join(directory, file))

  await run(`${forbid} spawnSync(process.execPath, ['-e', 'process.abort()']); process.abort()`)
  expect(await readdir(directory)).toEqual([])
  await context.annotate(`without it: ${withoutIt.join(', ') || 'nothing'}`)
})

test('the limit is hard, the filter keeps all memory out, and both are inherited', async () => {
  const look = `readFileSync('/proc/self/limits', 'utf8').match(/Max core file size.*/)[0] + readFileSync('/proc/self/coredump_filter', 'utf8')`
  const child = `spawnSync('sh', ['-c', 'grep "Max core file size" /proc/self/limits; cat /proc/self/coredump_filter'], { encoding: 'utf8' }).stdout`
  const said = await run(`${forbid} console.log(JSON.stringify({ problem, own: ${look}, child: ${child} }))`)
  const { problem, own, child: inherited } = JSON.parse(said) as Record<string, string | null>
  expect(problem).toBeNull()
  for (const shown of [own, inherited]) expect(shown).toMatch(/Max core file size +0 +0 +bytes\s+0+\n/)
})
