import { stat } from 'node:fs/promises'
import { freemem } from 'node:os'
import { join } from 'node:path'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { diskFile, type Machine } from './machine.ts'
import { findProcesses, pidFile } from './qemu-process.ts'
import type { Site } from './site.ts'
import { availableBytes, stateStorageId, storageDirectory } from './storages.ts'

/** In one storage. Disks are sparse, and nothing is promised twice: what other VMs' disks may still grow by counts as taken. */
export async function freeDiskBytes({ store, options }: Site, storageId: string = stateStorageId): Promise<number> {
  // A test's disks are another VM's.
  const machines = (await store.list()).filter(({ testOf }) => testOf === null)
  const disks = machines.flatMap(({ vmId, disks }) =>
    disks.map((disk) => ({ ...disk, path: join(store.directoryOf(vmId), diskFile(disk.index)) })),
  )
  const there = disks.filter((disk) => disk.storageId === storageId)
  const growth = await Promise.all(there.map(async ({ path, sizeBytes }) => Math.max(0, sizeBytes - (await allocatedBytes(path)))))
  const onFileSystem = (await availableBytes(storageDirectory(options, storageId))) - sum(growth)
  const inLimit = (options.maxDiskBytes ?? Infinity) - sum(disks.map(({ sizeBytes }) => sizeBytes))
  return Math.max(0, Math.min(onFileSystem, inLimit))
}

/** Memory that can still be given to VMs. */
export async function freeMemoryBytes({ store, options }: Site): Promise<number> {
  if (options.maxMemoryBytes === undefined) return freemem()
  const processes = await findProcesses()
  const running = (await store.list()).filter(({ vmId }) => processes.has(pidFile(store.directoryOf(vmId))))
  return Math.max(0, Math.min(freemem(), options.maxMemoryBytes - sum(running.map(({ memoryBytes }) => memoryBytes))))
}

/** Throws INSUFFICIENT_CAPACITY. `fileBytes`: what is written beside the disks. */
export async function requireRoom(site: Site, machine: Machine, fileBytes: number): Promise<void> {
  for (const storageId of new Set([stateStorageId, ...machine.disks.map((disk) => disk.storageId)])) {
    const there = machine.disks.filter((disk) => disk.storageId === storageId)
    const neededBytes = sum(there.map(({ sizeBytes }) => sizeBytes)) + (storageId === stateStorageId ? fileBytes : 0)
    const freeBytes = await freeDiskBytes(site, storageId)
    if (neededBytes > freeBytes)
      throw tooSmall(`disk space in its storage ${storageId}`, neededBytes, freeBytes, ['virtualMachine', 'disks'])
  }
  const memoryBytes = await freeMemoryBytes(site)
  const neededMemoryBytes = Math.max(machine.memoryBytes, machine.landing?.memoryBytes ?? 0)
  if (neededMemoryBytes > memoryBytes) throw tooSmall('memory', neededMemoryBytes, memoryBytes, ['virtualMachine', 'memoryBytes'])
}

/** A write that failed because the disk is full becomes INSUFFICIENT_CAPACITY; other errors stay as they are. */
export function asCapacityError(error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error
  return new ProviderError(
    'INSUFFICIENT_CAPACITY',
    'The disk of this host filled up while the virtual machine was being made. What was written is removed.',
    {
      retryable: false,
      remedy: 'Free disk space on this host or choose another destination.',
      cause: error,
    },
  )
}

function tooSmall(what: string, neededBytes: number, freeBytes: number, path: string[]): ProviderError {
  return new ProviderError(
    'INSUFFICIENT_CAPACITY',
    `This host has too little ${what} for the virtual machine: ${neededBytes} bytes are needed and ${Math.floor(freeBytes)} are free.`,
    {
      retryable: false,
      remedy: `Free ${what} on this host, raise the cloud's limit, or choose another destination. Nothing was changed.`,
      path,
    },
  )
}

async function allocatedBytes(path: string): Promise<number> {
  return (await stat(path)).blocks * 512
}

const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0)
