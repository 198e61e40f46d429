import { execFileSync } from 'node:child_process'

/** All that a run executes: not the words about the program, its benches and its other tests. */
const program = ['--', ':/', ...['docs', '*.md', 'bench', '*.test.ts', 'vitest.config.ts', '.ci'].map((path) => `:/!${path}`)]

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
