import { execFileSync } from 'node:child_process'

/** All that a run executes: neither words about the program nor other tests of it. */
const program = ['--', ':/', ':/!docs', ':/!*.md', ':/!*.test.ts']

/** The last one that changed what a run executes, as git tells; null outside of a clone, and where something is changed that is not committed. */
export function programCommit(): string | null {
  try {
    return git('status', '--porcelain', ...program) === '' ? git('log', '-1', '--format=%h', ...program) : null
  } catch {
    return null
  }
}

/** Under sudo the clone is somebody else's. */
function git(...words: string[]): string {
  return execFileSync('git', ['-c', 'safe.directory=*', ...words], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  }).trim()
}
