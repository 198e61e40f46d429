import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { runCommand } from './run-command.ts'

/**
 * Runs a shell script as root with a scratch directory below `directory` as its first argument. What it mounts goes away with it, however it ends.
 * Throws when this process isn't root.
 */
export async function runInMountNamespace(script: string, args: readonly string[], directory: string, signal?: AbortSignal): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('it needs root, to keep the owners of the files of the guest; "npm run setup" uses sudo')
  const scratch = join(directory, 'scratch')
  mkdirSync(scratch)
  try {
    await runCommand('unshare', ['--mount', '--propagation', 'private', 'sh', script, scratch, ...args], { signal })
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}
