import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { runCommand } from './run-command.ts'

/** Unpacks what matches the patterns (relative to the root, such as `usr/bin/busybox`) from the Debian tree into `target`. Owners are this process's. */
export async function extractFromTree(guestTree: string, patterns: readonly string[], target: string, signal?: AbortSignal): Promise<void> {
  mkdirSync(target, { recursive: true })
  const members = patterns.map((pattern) => `./${pattern}`)
  const args = [
    '--extract',
    '--file',
    join(guestTree, 'tree.tar'),
    '--no-same-owner',
    '--directory',
    target,
    '--wildcards',
    '--',
    ...members,
  ]
  await runCommand('tar', args, { signal })
}
