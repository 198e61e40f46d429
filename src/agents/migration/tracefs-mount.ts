import { mkdir, readFile, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { runTool } from './run-tool.ts'

/** Where tracefs is, and what makes the guest as it was before. */
export interface TracefsMount {
  path: string
  /** True when the guest had none mounted, and this one is ours. */
  own: boolean
  /** Undoes what was mounted here; nothing where the guest had it mounted. */
  release(): Promise<void>
}

/** Finds the guest's tracefs, or mounts one inside `ownDirectory`. Null where the kernel has none. */
export async function findTracefs(ownDirectory: string): Promise<TracefsMount | null> {
  const mounts = await readFile('/proc/self/mounts', 'utf8')
  for (const line of mounts.split('\n')) {
    const [, path, type] = line.split(' ')
    if (type === 'tracefs' && path) return { path, own: false, release: async () => {} }
  }
  const path = join(ownDirectory, 'tracefs')
  await mkdir(path, { recursive: true })
  const mounted = await runTool('mount', ['-t', 'tracefs', 'portolan-tracefs', path]).then(
    () => true,
    () => false,
  )
  if (!mounted) {
    await rmdir(path)
    return null
  }
  return {
    path,
    own: true,
    async release() {
      await runTool('umount', [path])
      await rmdir(path)
    },
  }
}
