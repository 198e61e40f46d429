import { stat, statfs } from 'node:fs/promises'
import { freemem } from 'node:os'
import { join } from 'node:path'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { diskFile, type Machine } from './machine.ts'
import { findProcesses, pidFile } from './qemu-process.ts'
import type { Site } from './site.ts'

/** Disks are sparse, and nothing is promised twice: what other VMs' disks may still grow by counts as taken. */
export async function freeDiskBytes({ store, options }: Site): Promise<number> {
  // A test's disks are another VM's.
  const machines = (await store.list()).filter(({ testOf }) => testOf === null)
  const disks = machines.flatMap(({ vmId, disks }) =>
    disks.map((disk) => ({ ...disk, path: join(store.directoryOf(vmId), diskFile(disk.index)) })),
  )
  const growth = await Promise.all(disks.map(async ({ path, sizeBytes }) => Math.max(0, sizeBytes - (await allocatedBytes(path)))))
  const { bavail, bsize } = await statfs(options.stateDirectory)
  const onFileSystem = bavail * bsize - sum(growth)
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
  const neededDiskBytes = sum(machine.disks.map(({ sizeBytes }) => sizeBytes)) + fileBytes
  const [diskBytes, memoryBytes] = await Promise.all([freeDiskBytes(site), freeMemoryBytes(site)])
  const neededMemoryBytes = Math.max(machine.memoryBytes, machine.landing?.memoryBytes ?? 0)
  if (neededDiskBytes > diskBytes) throw tooSmall('disk space', neededDiskBytes, diskBytes, ['virtualMachine', 'disks'])
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
