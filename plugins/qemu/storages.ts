/**
 * Places for disks besides the state directory: other directories, such as mount points of larger or faster file systems. A disk there is a file named after its VM,
 * with a symbolic link to it in the VM's directory, so that whatever works on a VM finds all its disks in one place.
 */
import { mkdir, readdir, rm, statfs, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { ProviderError, type StorageDescription } from '../../src/plugin-sdk/index.ts'
import { syncPath } from './durable-file.ts'
import { diskFile } from './machine.ts'
import type { QemuOptions } from './options.ts'

/** The state directory as a place for disks. */
export const stateStorageId = 'state'

const directories = ({ stateDirectory, storages }: QemuOptions) => [{ id: stateStorageId, directory: stateDirectory }, ...storages]

export async function makeStorages({ storages }: QemuOptions): Promise<void> {
  for (const { directory } of storages) await mkdir(directory, { recursive: true, mode: 0o700 })
}

/** Absent where there is one place only. */
export async function describeStorages(
  options: QemuOptions,
  freeBytes: (storageId: string) => Promise<number>,
): Promise<{ storages?: StorageDescription[] }> {
  if (options.storages.length === 0) return {}
  return {
    storages: await Promise.all(
      directories(options).map(async ({ id, directory }) => ({ id, name: directory, freeBytes: await freeBytes(id) })),
    ),
  }
}

/** Throws NOT_FOUND for an id that the cloud's options don't name. */
export function storageDirectory(options: QemuOptions, storageId: string): string {
  const found = directories(options).find(({ id }) => id === storageId)
  if (found) return found.directory
  throw new ProviderError('NOT_FOUND', `This cloud has no storage ${JSON.stringify(storageId.slice(0, 80))}; nothing was changed.`, {
    retryable: false,
    remedy: `Choose one of ${directories(options)
      .map(({ id }) => id)
      .join(', ')}, or add it to the cloud's option storages.`,
    path: ['virtualMachine', 'disks'],
  })
}

export async function availableBytes(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory)
  return bavail * bsize
}

/** The path of the file for a new disk; where that is in another storage, the VM's directory gets a link to it. */
export async function placeDisk(
  options: QemuOptions,
  vmId: string,
  machineDirectory: string,
  disk: { index: number; storageId: string },
): Promise<string> {
  const path = join(machineDirectory, diskFile(disk.index))
  if (disk.storageId === stateStorageId) return path
  const directory = storageDirectory(options, disk.storageId)
  const target = join(directory, `${vmId}-${diskFile(disk.index)}`)
  // What an interrupted call left.
  await rm(target, { force: true })
  await symlink(target, path)
  return target
}

/** Removes a VM's disks from the other storages, however little of the VM there is. */
export async function removeDisks({ storages }: QemuOptions, vmId: string): Promise<void> {
  for (const { directory } of storages) {
    const files = (await readdir(directory)).filter((name) => name.startsWith(`${vmId}-disk-`))
    for (const name of files) await rm(join(directory, name), { force: true })
    if (files.length > 0) await syncPath(directory)
  }
}
