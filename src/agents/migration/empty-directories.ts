/** Empties the directories that were left out of the copy, on the overlay: their files are there by name, and hold what the disk held before, or nothing. */
import { lstat, mkdtemp, readdir, rm, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ControlRequests, ExcludedPlace } from '../../transfer/control-protocol.ts'
import { TransferError } from '../../transfer/transfer-error.ts'
import { probeFileSystems } from './file-systems.ts'
import { runTool } from './run-tool.ts'

type Report = ControlRequests['fixUp'][1]['steps'][number]

/**
 * The directories themselves stay, with owner and mode; so does a file system's own `lost+found`. Running it again changes nothing. `diskName` is the kernel's. Throws
 * TransferError FIX_UP_FAILED: a guest with half a directory must not boot.
 */
export async function emptyDirectories(diskName: string, places: readonly ExcludedPlace[]): Promise<Report> {
  const removed: string[] = []
  const fileSystems = await probeFileSystems(diskName)
  for (const partition of new Set(places.map((place) => place.partition))) {
    const here = places.filter((place) => place.partition === partition).map(({ path }) => path)
    const device = fileSystems.find((candidate) => candidate.partition === partition)
    if (!device) throw failed(here, `no file system was found on partition ${partition} of ${diskName}`)
    const root = await mkdtemp(join(tmpdir(), 'portolan-empty-'))
    try {
      await runTool('mount', ['-t', device.type, device.device, root])
      try {
        for (const path of here) if ((await emptyDirectory(root, path)) > 0) removed.push(path)
      } finally {
        await runTool('umount', [root])
      }
    } catch (error) {
      throw error instanceof TransferError ? error : failed(here, error instanceof Error ? error.message : String(error))
    } finally {
      await rmdir(root)
    }
  }
  return {
    step: 'empty-excluded-directories',
    changed: removed.length > 0,
    detail: removed.length > 0 ? removed.join(', ').slice(0, 2_000) : 'nothing was in them',
  }
}

const attributes = 'where its directory is immutable, by `chattr +i`, take that away in the source, or do not exclude it'

/** How many entries went. A directory that isn't there is empty enough. */
async function emptyDirectory(root: string, path: string): Promise<number> {
  let directory = root
  for (const part of path.split('/').filter(Boolean)) {
    directory = join(directory, part)
    const found = await lstat(directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null
      throw error
    })
    if (!found) return 0
    // A link might lead out of the mounted file system, into the landing image's own.
    if (!found.isDirectory()) throw failed([path], `${part} is no directory`)
  }
  const names = (await readdir(directory)).filter((name) => !(directory === root && name === 'lost+found'))
  for (const name of names)
    await remove(join(directory, name)).catch((error: Error) => {
      throw failed([path], `${error.message} (${attributes})`, false)
    })
  return names.length
}

/**
 * What somebody made immutable or append-only (`chattr`) is held even against root, until that is taken away. Node's error doesn't tell it from others. What stays then
 * stays for good.
 */
async function remove(path: string): Promise<void> {
  const removed = () => rm(path, { recursive: true, force: true })
  await removed().catch(async () => {
    // What is neither file nor directory has no such attributes, and chattr says so with an error.
    await runTool('chattr', ['-R', '-f', '-i', '-a', path]).catch(() => {})
    await removed()
  })
}

function failed(paths: readonly string[], reason: string, retryable = true): TransferError {
  return new TransferError(
    'FIX_UP_FAILED',
    `The excluded directories ${paths.join(', ').slice(0, 1_000)} could not be emptied in the copy: ${reason}. What was verified is unchanged; discard the overlay and try again.`,
    { retryable },
  )
}
