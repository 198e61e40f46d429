/**
 * Which blocks of the disk hold nothing but data of files in excluded directories. Looked up anew for every round: before the freeze it is a good guess, after it
 * it is the truth, since then no file moves.
 *
 * Directories themselves, names, owners and all other metadata are copied as ever; so is the data of a file that has another name too, or shares its blocks.
 */
import { lstat, readdir, readFile, realpath } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { createBlockBitmap, type BlockBitmap } from '../../transfer/block-bitmap.ts'
import { blockBytes } from '../../transfer/block-grain.ts'
import type { ExcludedPlace } from '../../transfer/control-protocol.ts'
import { TransferError } from '../../transfer/transfer-error.ts'
import { mountTable, type MountPoint } from './block-devices.ts'
import { fileExtents, type SectorRange } from './file-extents.ts'

export interface ExcludedDirectories {
  /** Throws TransferError INVALID_REQUEST when one can't be left out: is on another disk, say. One that isn't there is no fault. */
  check(): Promise<void>
  /** Those that are there, and can be left out now. `onFiles` hears how many more names were found, and how many more files were placed. Rejects when the signal is aborted. */
  lookUp(onFiles: (count: number) => void, signal: AbortSignal): Promise<{ blocks: BlockBitmap; places: ExcludedPlace[] }>
}

const sectorsPerBlock = blockBytes / 512

/** `disk` is the kernel's name, such as `vda`. */
export function createExcludedDirectories(disk: string, blockCount: number, directories: readonly string[]): ExcludedDirectories {
  return {
    async check() {
      const mounts = await mountTable()
      for (const directory of directories) {
        const found = await locate(disk, directory, mounts)
        if (found && 'fault' in found) throw cannotExclude(directory, found.fault)
      }
    },
    async lookUp(onFiles, signal) {
      const mounts = await mountTable()
      const blocks = createBlockBitmap(blockCount)
      const places: ExcludedPlace[] = []
      const ranges: SectorRange[] = []
      for (const directory of directories) {
        const found = await locate(disk, directory, mounts)
        if (!found || 'fault' in found) continue
        const { partition, path, startSector } = found
        places.push({ partition, path })
        for (const { start, end } of await fileExtents(await filesIn(directory, onFiles, signal), onFiles, signal))
          ranges.push({ start: start + startSector, end: end + startSector })
      }
      for (const { first, count } of wholeBlocks(ranges)) if (first + count <= blockCount) blocks.set(first, count)
      return { blocks, places }
    },
  }
}

/** Blocks that the ranges cover from end to end, several ranges together where they touch. Pure. */
export function wholeBlocks(ranges: readonly SectorRange[]): { first: number; count: number }[] {
  const merged: SectorRange[] = []
  for (const range of ranges.toSorted((a, b) => a.start - b.start)) {
    const before = merged.at(-1)
    if (before && range.start <= before.end) before.end = Math.max(before.end, range.end)
    else merged.push({ ...range })
  }
  return merged
    .map(({ start, end }) => {
      const first = Math.ceil(start / sectorsPerBlock)
      return { first, count: Math.floor(end / sectorsPerBlock) - first }
    })
    .filter(({ count }) => count > 0)
}

type Located = (ExcludedPlace & { startSector: number }) | { fault: string } | null

async function locate(disk: string, directory: string, mounts: readonly MountPoint[]): Promise<Located> {
  const found = await lstat(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null
    throw error
  })
  if (!found) return null
  if ((await realpath(directory)) !== directory) return { fault: 'it is reached through a symbolic link: name the directory itself' }
  if (!found.isDirectory()) return { fault: 'it is no directory' }
  const inside = mounts.find(({ path }) => path.startsWith(`${directory}/`))
  if (inside) return { fault: `${inside.path} is mounted inside it: name the directories beside that` }
  const mount = mounts.findLast(({ path }) => path === directory) ?? mountAbove(directory, mounts)
  if (!mount) return { fault: 'no file system of a disk holds it' }
  if (!/^ext[234]$/.test(mount.fsType))
    return { fault: `it is on a file system of the type ${mount.fsType}, and only ext2, ext3 and ext4 can be looked into` }
  const device = await realpath(`/sys/dev/block/${mount.deviceNumber}`).catch(() => '')
  const path = join(mount.root, directory.slice(mount.path === '/' ? 0 : mount.path.length))
  if (basename(device) === disk) return { partition: null, path, startSector: 0 }
  if (basename(dirname(device)) !== disk) return { fault: `it is not on a partition of ${disk}, the disk that is copied` }
  const [partition, startSector] = await Promise.all(
    ['partition', 'start'].map(async (name) => Number(await readFile(join(device, name), 'latin1'))),
  )
  if (!partition || startSector === undefined) return { fault: `the kernel does not tell where its partition begins` }
  return { partition, path, startSector }
}

function mountAbove(directory: string, mounts: readonly MountPoint[]): MountPoint | undefined {
  const above = mounts.filter(({ path }) => path === '/' || directory.startsWith(`${path}/`))
  const longest = Math.max(...above.map(({ path }) => path.length))
  // What was mounted last on the same point hides the others.
  return above.findLast(({ path }) => path.length === longest)
}

/** Files with data, of one name each. What vanishes meanwhile is left away. */
async function filesIn(directory: string, onFiles: (count: number) => void, signal: AbortSignal): Promise<string[]> {
  const files: string[] = []
  const pending = [directory]
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const inside = next
    const entries = await readdir(inside, { withFileTypes: true }).catch(ifGone)
    for (const entry of entries ?? []) {
      signal.throwIfAborted()
      onFiles(1)
      const path = join(inside, entry.name)
      if (entry.isDirectory()) pending.push(path)
      // A name with a line's end could pass for the kernel's answer.
      else if (entry.isFile() && !/\p{Cc}/u.test(path)) {
        const found = await lstat(path).catch(ifGone)
        if (found?.isFile() && found.nlink === 1 && found.blocks > 0) files.push(path)
      }
    }
  }
  return files
}

function ifGone(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null
  throw error
}

function cannotExclude(directory: string, fault: string): TransferError {
  return new TransferError('INVALID_REQUEST', `The directory ${directory} can't be left out of the copy: ${fault}. Nothing was copied.`, {
    retryable: false,
  })
}
