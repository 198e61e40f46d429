/**
 * Proves that change tracking sees this disk: a write, then a punched hole, of a scratch file on a file system of the disk. Where either goes unseen,
 * tracking can't be trusted, and every round compares the whole disk.
 */
import { open, unlink, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { BlockBitmap } from '../../transfer/block-bitmap.ts'
import { blockBytes } from '../../transfer/block-grain.ts'
import type { ChangeTracker } from './change-tracker.ts'
import { runTool } from './run-tool.ts'

const canaryBlocks = 16
const patienceMs = 3000

/** Null when proven, otherwise the reason why not. The scratch file is gone afterwards. `changed` keeps what was seen. */
export async function proveTracking(tracker: ChangeTracker, changed: BlockBitmap, mountPath: string): Promise<string | null> {
  const path = join(mountPath, `.portolan-canary-${process.pid}`)
  let file: FileHandle | null = null
  try {
    const canary = (file = await open(path, 'wx+', 0o600))
    // Without a name from here on: a killed agent leaves none that is copied.
    await unlink(path)
    const written = await seesMore(tracker, changed, async () => {
      await canary.write(Buffer.alloc(canaryBlocks * blockBytes, 0xa5))
      await canary.sync()
    })
    if (!written) return `a write to ${mountPath} did not show in the kernel's trace`
    const zeroed = await seesMore(tracker, changed, async () => {
      const own = `/proc/${process.pid}/fd/${canary.fd}`
      await runTool('fallocate', ['--zero-range', '--offset', '0', '--length', String(canaryBlocks * blockBytes), own]).catch(() => {})
      await canary.truncate(0)
      await canary.sync()
    })
    return zeroed ? null : `zeroing a file on ${mountPath} did not show in the kernel's trace`
  } catch (error) {
    return `the proof on ${mountPath} failed: ${error instanceof Error ? error.message : String(error)}`
  } finally {
    await file?.close()
  }
}

/** Looks at a bitmap of its own kind: what was set before the action doesn't count as seen. */
async function seesMore(tracker: ChangeTracker, changed: BlockBitmap, action: () => Promise<void>): Promise<boolean> {
  await tracker.drain()
  const kept: { first: number; count: number }[] = []
  for (let run = changed.nextRun(0, Number.MAX_SAFE_INTEGER); run; run = changed.nextRun(run.first + run.count, Number.MAX_SAFE_INTEGER))
    kept.push(run)
  changed.clearAll()
  try {
    await action()
    for (let waitedMs = 0; waitedMs < patienceMs; waitedMs += 100) {
      await tracker.drain()
      if (changed.count > 0) return true
      await sleep(100)
    }
    return false
  } finally {
    for (const run of kept) changed.set(run.first, run.count)
  }
}
