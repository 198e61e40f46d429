/** Places for disks: the storage pools that the cloud's options name. Overlays, landing images and consoles are always in the first of them. */
import { basename, join } from 'node:path'
import { ProviderError, type NewVirtualMachine, type StorageDescription } from '../../src/plugin-sdk/index.ts'
import type { Site } from './site.ts'
import type { Volumes } from './volumes.ts'

export const storagePools = ({ options }: Site): string[] => [options.storagePool, ...options.storagePools]

/** Absent where there is one pool only. */
export async function describeStorages(site: Site, signal?: AbortSignal): Promise<{ storages?: StorageDescription[] }> {
  if (site.options.storagePools.length === 0) return {}
  const pools = storagePools(site)
  return { storages: await Promise.all(pools.map(async (id) => ({ id, name: id, freeBytes: await site.pool(id).availableBytes(signal) }))) }
}

/** The volumes of the pool that a new disk goes to. Throws NOT_FOUND for one that the options don't name. */
export function poolFor(site: Site, { storageId }: NewVirtualMachine['disks'][number]): Volumes {
  if (storageId === undefined || storagePools(site).includes(storageId)) return site.pool(storageId)
  throw new ProviderError('NOT_FOUND', `This cloud has no storage ${JSON.stringify(storageId.slice(0, 100))}; nothing was created.`, {
    retryable: false,
    remedy: `Choose one of ${storagePools(site).join(', ')}, or add the pool to the cloud's option storagePools.`,
    path: ['virtualMachine', 'disks'],
  })
}

/** Where files are, by the pools' directories. With one pool there is nothing to find. */
export async function findStorages(site: Site, signal?: AbortSignal) {
  const several = site.options.storagePools.length > 0
  const names = several ? storagePools(site) : []
  const pools = await Promise.all(names.map(async (id) => ({ id, directory: await site.pool(id).directory(signal) })))
  return {
    /** The pool that holds a path. */
    storageOf: (path: string | undefined) => pools.find(({ directory }) => path?.startsWith(`${directory}/`))?.id,
    /** A copied disk's path, from one in the first pool and the name of the pool where it is. */
    copiedDisk(path: string, pool: string | undefined): string {
      const directory = pools.find(({ id }) => id === pool)?.directory
      return directory === undefined ? path : join(directory, basename(path))
    },
  }
}
