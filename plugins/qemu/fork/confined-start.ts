/**
 * Starts a parent's or child's QEMU so that it is confined before its first instruction: in its control group, with bounds on the files it writes, under an account of its own, and
 * with an end that comes whether or not this plugin lives.
 *
 *   sh (enters the group, sets the bounds) = timeout (ends the rest) --> setpriv (changes the account) = QEMU
 *
 * A write beyond the bound gets an error instead of a signal, which QEMU passes on to its guest.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { FileHandle } from 'node:fs/promises'
import { readersGroupId } from './child-account.ts'

export interface Confinement {
  /** Null: this process's own. */
  userId: number | null
  /** See ChildCgroups.make. */
  enterFiles: string[]
  maxFileBytes: number
  maxLifetimeMs: number
}

/** Arguments: the bound in blocks of 512 bytes, files to write 0 to, `--`, the command. Its name is the beginning of the error where a group can't be entered. */
const confine = `trap '' XFSZ; ulimit -c 0; ulimit -f "$1" || exit 71; shift
while [ "$1" != -- ]; do echo 0 >"$1" || exit 71; shift; done
shift; exec "$@"`

export function confinedCommand(qemuBinary: string, qemuArguments: string[], confinement: Confinement): string[] {
  const { userId, enterFiles, maxFileBytes, maxLifetimeMs } = confinement
  const account = userId === null ? [] : [`--reuid=${userId}`, `--regid=${readersGroupId}`, '--clear-groups']
  return [
    ['sh', '-c', confine, 'confine', String(Math.ceil(maxFileBytes / 512)), ...enterFiles, '--'],
    ['timeout', '--signal=KILL', (maxLifetimeMs / 1000).toFixed(3)],
    ['setpriv', '--no-new-privs', ...account, qemuBinary, ...qemuArguments],
  ].flat()
}

/** `preload`: see open-read-only.ts. The process has a session of its own, and none of our environment, which may hold credentials. */
export function startConfined(
  command: string[],
  options: { cwd: string; log: FileHandle; fds?: number[]; preload?: string },
): ChildProcess {
  const [program = '', ...programArguments] = command
  const child = spawn(program, programArguments, {
    cwd: options.cwd,
    detached: true,
    stdio: ['ignore', options.log.fd, options.log.fd, ...(options.fds ?? [])],
    env: { PATH: process.env['PATH'], LC_ALL: 'C', ...(options.preload !== undefined && { LD_PRELOAD: options.preload }) },
  })
  child.unref()
  return child
}
