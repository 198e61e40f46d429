/**
 * `npm test`: set-up, then Vitest, in a private network namespace (bridges and servers of the tests exist nowhere else).
 *   --full          the whole fault matrices too
 *   anything else   goes to Vitest, such as a file's name
 * The last line is `tests: N passed, N failed`; the exit code is 0 only when at least one test ran and none failed.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { ensureSetup } from '../setup/setup.ts'
import { giveTo } from '../setup/ownership.ts'
import { enterPrivateNetwork } from '../src/cli/private-site/enter-private-network.ts'
import { processesOfNetwork } from './support/processes-of-network.ts'

const root = resolve(import.meta.dirname, '..')
const full = process.argv.includes('--full')
const rest = process.argv.slice(2).filter((argument) => argument !== '--full')

const { cacheDirectory } = await ensureSetup({ log: (line) => process.stderr.write(`${line}\n`), tests: true })
await enterPrivateNetwork()

const seed = process.env['PORTOLAN_TEST_SEED'] ?? new Date().toISOString().slice(0, 10)
process.stderr.write(`tests: seed ${seed}${full ? ', the whole fault matrices' : ''}\n`)
const directory = mkdtempSync(join(tmpdir(), 'portolan-tests-'))
const report = join(directory, 'report.json')
const vitest = spawn(
  process.execPath,
  [join(root, 'node_modules/vitest/vitest.mjs'), 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`, ...rest],
  {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      PORTOLAN_TEST_SEED: seed,
      ...(full ? { PORTOLAN_TEST_FULL: '1' } : {}),
    },
  },
)
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => vitest.kill(signal))
const exitCode = await new Promise<number>((done) => vitest.on('exit', (code) => done(code ?? 1)))

endWhatIsLeft()

// What the tests' tools leave where they lie is not to be root's: the user's next `npm ci` has to be able to remove it.
for (const left of ['.vite', '.vitest-cache', '.cache']) giveTo(process.env['PORTOLAN_OWNER'], join(root, 'node_modules', left))
giveTo(process.env['PORTOLAN_OWNER'], join(cacheDirectory, 'browser'))

const counts = readCounts()
rmSync(directory, { recursive: true, force: true })
process.stdout.write(`tests: ${counts.passed} passed, ${counts.failed} failed\n`)
process.exitCode = exitCode === 0 && counts.failed === 0 && counts.passed > 0 ? 0 : 1

/** Tests that were interrupted leave virtual machines running, which belong to nobody. Whatever is in the network namespace that was made for this run was started by it. */
function endWhatIsLeft(): void {
  const network = readlinkSync('/proc/self/ns/net')
  if (network === readlinkSync(`/proc/${process.ppid}/ns/net`)) return
  const left = processesOfNetwork(network).filter(({ pid }) => pid !== process.pid)
  for (const { pid } of left) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has ended since.
    }
  }
  if (left.length > 0)
    process.stderr.write(`tests: ended what was left running: ${left.map(({ name, pid }) => `${name} (${pid})`).join(', ')}\n`)
}

/** A run that died before its report counts as one failure: nothing that can't be counted is called green. */
function readCounts(): { passed: number; failed: number } {
  try {
    const { numPassedTests, numFailedTests, numFailedTestSuites } = JSON.parse(readFileSync(report, 'utf8')) as Record<string, number>
    const failed = numFailedTests || (exitCode === 0 ? 0 : Math.max(1, numFailedTestSuites ?? 0))
    return { passed: numPassedTests ?? 0, failed }
  } catch {
    return { passed: 0, failed: 1 }
  }
}
