import { execFileSync } from 'node:child_process'

/** The last one that changed more of the program that runs than words about it, as git tells; `unknown` outside of a clone. Under sudo the clone is somebody else's. */
export function programCommit(): string {
  try {
    return execFileSync('git', ['-c', 'safe.directory=*', 'log', '-1', '--format=%h', '--', ':/', ':/!docs', ':/!*.md'], {
      cwd: import.meta.dirname,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  } catch {
    return 'unknown'
  }
}
