import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'

/**
 * From now on this process, and every process that it starts, leaves no copy of its memory behind when it dies: credentials are unsealed in there. The limit keeps the kernel from
 * writing core files; the filter keeps memory out of those that a crash handler of the machine is piped regardless of the limit. Node's own crash reports leave the environment out.
 * @returns what could not be set, or null.
 */
export function forbidCoreDumps(): string | null {
  process.report.excludeEnv = true
  if (process.platform !== 'linux') return null
  try {
    writeFileSync('/proc/self/coredump_filter', '0')
  } catch (error) {
    return `/proc/self/coredump_filter could not be written: ${String(error)}`
  }
  const { status, error, stderr } = spawnSync('prlimit', ['--pid', String(process.pid), '--core=0:0'], { encoding: 'utf8' })
  return status === 0 ? null : `prlimit failed: ${error?.message ?? stderr.trim()}`
}
