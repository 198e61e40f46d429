import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { runCommand } from './run-command.ts'

/** The two zero blocks that end a tar archive. */
export const tarEnd = Buffer.alloc(1024)

/**
 * An archive of the files, owned by root, without the blocks that end it: so that what is compressed slowly and once can be followed by what changes
 * often. Compressed parts one after the other are one stream to gzip.
 */
export async function tarWithoutEnd(directory: string, names: readonly string[], signal?: AbortSignal): Promise<Buffer> {
  const archive = join(directory, '.archive.tar')
  const args = ['--create', '--file', archive, '--format=ustar', '--blocking-factor=1', '--owner=0', '--group=0', '--numeric-owner']
  try {
    await runCommand('tar', [...args, '--directory', directory, ...names], { signal })
    const content = readFileSync(archive)
    if (!content.subarray(-tarEnd.length).equals(tarEnd)) throw new Error('tar made an archive without an end')
    return content.subarray(0, -tarEnd.length)
  } finally {
    rmSync(archive, { force: true })
  }
}
