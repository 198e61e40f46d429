import { execFileSync } from 'node:child_process'

/** Of the program that runs, as git tells; `unknown` outside of a clone. Under sudo the clone is somebody else's. */
export function programCommit(): string {
  try {
    return execFileSync('git', ['-c', 'safe.directory=*', 'rev-parse', '--short', 'HEAD'], {
      cwd: import.meta.dirname,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  } catch {
    return 'unknown'
  }
}
