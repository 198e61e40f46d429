/**
 * A landing image's initramfs with files of one migration appended.
 *
 * The kernel unpacks concatenated archives one after the other, each compressed or not, skipping zero bytes in between; an uncompressed cpio
 * must begin at a multiple of 4. A directory named in a later archive gets that archive's mode, so inject below directories that may be 0755.
 */
import { randomUUID } from 'node:crypto'
import { constants, copyFile, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { InjectedFile } from './contract.ts'
import { ProviderError } from './errors.ts'

const directoryMode = 0o040755
const regularFile = 0o100000

/**
 * Writes `basePath` followed by a cpio archive of `files` to `outputPath`, mode 0600 (the files hold one-time secrets), fsynced with its directory.
 * Writing again replaces the file in one step. Throws ProviderError INTERNAL where a file's path is not absolute and plain, before anything is written.
 */
export async function writeLandingInitrd(basePath: string, files: readonly InjectedFile[], outputPath: string): Promise<void> {
  const archive = cpioArchive(files)
  const partialPath = `${outputPath}.${randomUUID()}.partial`
  try {
    await copyFile(basePath, partialPath, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL)
    const file = await open(partialPath, 'r+')
    try {
      await file.chmod(0o600)
      const { size } = await file.stat()
      // Zeros up to a multiple of 512: what archivers do, and more than the kernel asks.
      await file.write(Buffer.concat([Buffer.alloc(-size & 511), archive]), 0, null, size)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(partialPath, outputPath)
  } catch (error) {
    await rm(partialPath, { force: true })
    throw error
  }
  const directory = await open(dirname(outputPath))
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** The `newc` cpio archive with the files and all their parent directories, root-owned, closed by its trailer. */
export function cpioArchive(files: readonly InjectedFile[]): Buffer {
  const parts: Buffer[] = []
  const seen = new Set<string>()
  let inode = 0
  const add = (name: string, mode: number, content: Buffer) => parts.push(cpioEntry({ name, mode, inode: ++inode, content }))

  for (const file of files) {
    const segments = pathSegments(file.path)
    segments.slice(0, -1).forEach((_, depth) => {
      const directory = segments.slice(0, depth + 1).join('/')
      if (seen.has(directory)) return
      seen.add(directory)
      add(directory, directoryMode, Buffer.alloc(0))
    })
    const name = segments.join('/')
    if (seen.has(name)) throw badPath(file.path, 'it is given twice')
    seen.add(name)
    add(name, regularFile | (file.mode & 0o7777), Buffer.from(file.content))
  }
  parts.push(cpioEntry({ name: 'TRAILER!!!', mode: 0, inode: 0, content: Buffer.alloc(0) }))
  return Buffer.concat(parts)
}

function cpioEntry(entry: { name: string; mode: number; inode: number; content: Buffer }): Buffer {
  const name = Buffer.from(`${entry.name}\0`)
  const linkCount = entry.mode === directoryMode ? 2 : 1
  const fields = [
    entry.inode,
    entry.mode,
    0, // uid
    0, // gid
    linkCount,
    0, // mtime
    entry.content.length,
    0, // device, major and minor
    0,
    0, // special device, major and minor
    0,
    name.length,
    0, // checksum, unused by newc
  ]
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`)
  return Buffer.concat([
    header,
    name,
    Buffer.alloc(-(header.length + name.length) & 3),
    entry.content,
    Buffer.alloc(-entry.content.length & 3),
  ])
}

function pathSegments(path: string): string[] {
  if (!path.startsWith('/')) throw badPath(path, 'it is not absolute')
  if (path.includes('\0')) throw badPath(path, 'it holds a zero byte')
  const segments = path.slice(1).split('/')
  if (segments.some((segment) => segment === '' || segment === '.' || segment === '..'))
    throw badPath(path, 'it has an empty, "." or ".." part')
  return segments
}

function badPath(path: string, why: string): ProviderError {
  return new ProviderError('INTERNAL', `The file ${JSON.stringify(path)} can't be injected: ${why}.`, {
    retryable: false,
    remedy: 'Give each injected file one absolute path without "." and ".." parts.',
    path: ['inject', path],
  })
}
