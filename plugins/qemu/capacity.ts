import { stat } from 'node:fs/promises'
import { freemem } from 'node:os'
import { join } from 'node:path'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { diskFile, type Machine } from './machine.ts'
import { findProcesses, processOf } from './qemu-process.ts'
import type { Site } from './site.ts'
import { availableBytes, stateStorageId, storageDirectory } from './storages.ts'

/** In one storage. Disks are sparse, and nothing is promised twice: what other VMs' disks may still grow by counts as taken. */
export async function freeDiskBytes(site: Site, storageId: string = stateStorageId): Promise<number> {
  const { store, options } = site
  // A test's disks are another VM's.
  const machines = (await store.list()).filter(({ testOf }) => testOf === null)
  const taken = (await Promise.all(machines.map((machine) => takenBy(site, machine, storageId)))).filter((taken) => taken !== null)
  const onFileSystem = (await availableBytes(storageDirectory(options, storageId))) - sum(taken.map(({ growthBytes }) => growthBytes))
  const inLimit = (options.maxDiskBytes ?? Infinity) - sum(taken.map(({ diskBytes }) => diskBytes))
  return Math.max(0, Math.min(onFileSystem, inLimit))
}

/** `diskBytes`: of all its disks; `growthBytes`: what those in one storage may still grow by. Null where it was deleted since it was listed. */
async function takenBy({ store }: Site, { vmId, disks }: Machine, storageId: string) {
  const there = disks.filter((disk) => disk.storageId === storageId)
  try {
    const growth = await Promise.all(
      there.map(async ({ index, sizeBytes }) =>
        Math.max(0, sizeBytes - (await allocatedBytes(join(store.directoryOf(vmId), diskFile(index))))),
      ),
    )
    return { diskBytes: sum(disks.map(({ sizeBytes }) => sizeBytes)), growthBytes: sum(growth) }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    if ((await store.find(vmId)) === null) return null
    throw diskMissing(vmId, storageId, error)
  }
}

/** Memory that can still be given to VMs. One that is still being made has its memory, though its process may not have been started yet. */
export async function freeMemoryBytes({ store, options }: Site): Promise<number> {
  if (options.maxMemoryBytes === undefined) return freemem()
  // In this order: one that is made by the time it is listed has its process by then.
  const machines = await store.list()
  const processes = await findProcesses()
  const held = machines.map(async (machine) =>
    isBeingMade(machine) || (await processOf(store.directoryOf(machine.vmId), processes)) ? machine.memoryBytes : 0,
  )
  return Math.max(0, Math.min(freemem(), options.maxMemoryBytes - sum(await Promise.all(held))))
}

/** The call that makes it has not ended, or was cut short. */
function isBeingMade({ createdBy, operations }: Machine): boolean {
  return !Object.hasOwn(operations, createdBy)
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

function diskMissing(vmId: string, storageId: string, cause: unknown): ProviderError {
  return new ProviderError(
    'UNREACHABLE',
    `A disk of the virtual machine ${vmId} is not in its storage ${JSON.stringify(storageId)}, so what is free there is not known.`,
    {
      retryable: true,
      remedy: 'Mount the file system of that storage, or put the disk back where it was. Nothing was changed.',
      path: ['options', 'storages'],
      cause,
    },
  )
}

async function allocatedBytes(path: string): Promise<number> {
  return (await stat(path)).blocks * 512
}

const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0)
