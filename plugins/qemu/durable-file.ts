import { open, rename } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { ProviderError } from '../../src/plugin-sdk/index.ts'

/** Throws INSUFFICIENT_CAPACITY where the work found the disk full; other errors stay as they are. */
export async function asRoomAllows<Answer>(what: string, work: () => Promise<Answer>): Promise<Answer> {
  try {
    return await work()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error
    throw new ProviderError('INSUFFICIENT_CAPACITY', `The disk of this host is full, so ${what} could not be written down.`, {
      retryable: false,
      remedy: 'Free disk space on this host.',
      cause: error,
    })
  }
}

/**
 * Replaces the file in one step, mode 0600: after a power cut it holds either the old text or the new one, and once this returns, the new one.
 * One writer at a time for a path: the partial file's name is fixed, so that an interrupted write leaves nothing for ever.
 */
export async function writeDurably(path: string, text: string): Promise<void> {
  const partialPath = join(dirname(path), `.${basename(path)}.partial`)
  const file = await open(partialPath, 'w', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(partialPath, path)
  await syncPath(dirname(path))
}

/** Flushes a file, or a directory's entries, to the disk. */
export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
