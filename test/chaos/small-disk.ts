/** A file system of its own for a site, small enough to be full at once. */
import { execFile } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { promisify } from 'node:util'

export interface SmallDisk {
  /** Nothing can be written to it any more. */
  fill(): Promise<void>
  free(): Promise<void>
  unmount(): Promise<void>
}

const run = promisify(execFile)
const smallestBytes = 4096

export async function mountSmallDisk(path: string, sizeBytes: number): Promise<SmallDisk> {
  await mkdir(path)
  await run('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'chaos', path])
  const resize = (bytes: number) => run('mount', ['-o', `remount,size=${bytes}`, path])
  const usedBytes = async () => Number((await run('df', ['--output=used', '-B1', path])).stdout.trim().split('\n')[1])
  return {
    async fill() {
      // Not smaller than what is on it, which may just be growing; and not 0, which would be no limit at all, nor could there be one again (tmpfs(5)).
      for (let attempt = 1; ; attempt++) {
        try {
          return void (await resize(Math.max(await usedBytes(), smallestBytes)))
        } catch (error) {
          if (attempt === 20) throw error
        }
      }
    },
    async free() {
      await resize(sizeBytes)
    },
    async unmount() {
      await run('umount', ['--lazy', path])
    },
  }
}
