import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type ChildLimits, type ForkCapability, ProviderError } from '../../../src/plugin-sdk/index.ts'
import { freeMemoryBytes } from '../capacity.ts'
import { availableBytes } from '../storages.ts'
import { childFiles, type Parent } from './fork-files.ts'
import { findForkProcesses, proportionalBytes } from './fork-processes.ts'
import { type ForkSite, listChildDirectories, readChild, readParent, requireSaved } from './fork-site.ts'

/** QEMU itself, with the code it translates. */
const processBytes = 96 * 1024 * 1024

/** Nothing is promised twice: what the children that are here may still grow by counts as taken. */
export function forkCapacity(site: ForkSite): ForkCapability['capacity'] {
  return async ({ parentId }) => {
    const parent = await requireSaved(site, parentId)
    const perChildBytes = mostBytes(parent)
    const promisedBytes = await growthOfChildren(site)
    const bounds = await freeBytes(site)
    const tightest = bounds.reduce((least, bound) => (bound.bytes < least.bytes ? bound : least))
    const freeMemoryBytes = Math.max(0, Math.floor(tightest.bytes - promisedBytes))
    const children = Math.floor(freeMemoryBytes / perChildBytes)
    return {
      children,
      freeMemoryBytes,
      perChildBytes,
      reason: `${children} more ${children === 1 ? 'child fits' : 'children fit'}: a child may take ${inMebibytes(perChildBytes)}, and ${tightest.of} has ${inMebibytes(freeMemoryBytes)} left beside what running children may still take.`,
    }
  }
}

/** Throws INSUFFICIENT_CAPACITY. Looks at what is free now alone: it is on a fork's way. */
export async function requireMemoryForChild(site: ForkSite, parent: Parent, limits: ChildLimits): Promise<void> {
  const neededBytes = Math.min(limits.memoryBytes, mostBytes(parent))
  for (const { of, bytes } of await freeBytes(site))
    if (bytes < neededBytes)
      throw new ProviderError(
        'INSUFFICIENT_CAPACITY',
        `There is too little memory for another child: it may take ${inMebibytes(neededBytes)}, and ${of} has ${inMebibytes(bytes)} left.`,
        { retryable: true, remedy: 'Wait for other children to end, or fork fewer. Nothing was changed.', path: ['limits', 'memoryBytes'] },
      )
}

/** Throws INSUFFICIENT_CAPACITY. A parent has memory and disk of its own, all of which it may write. */
export async function requireRoomForParent(site: ForkSite, { hardware, diskBytes }: Parent): Promise<void> {
  const memoryBytes = hardware.memoryKiB * 1024
  const disk = { of: "the state directory's file system", bytes: await availableBytes(site.parents), neededBytes: memoryBytes + diskBytes }
  const memory = (await freeBytes(site)).map((bound) => ({ ...bound, neededBytes: memoryBytes + processBytes }))
  for (const { of, bytes, neededBytes } of [disk, ...memory])
    if (bytes < neededBytes)
      throw new ProviderError(
        'INSUFFICIENT_CAPACITY',
        `There is too little room for the parent: it may take ${inMebibytes(neededBytes)}, and ${of} has ${inMebibytes(bytes)} left.`,
        {
          retryable: false,
          remedy: 'Free some, or give the parent less memory or a smaller disk. Nothing was changed.',
          path: ['memoryBytes'],
        },
      )
}

const mostBytes = ({ hardware }: Parent) => hardware.memoryKiB * 1024 + processBytes

async function freeBytes(site: ForkSite): Promise<{ of: string; bytes: number }[]> {
  const available = /^MemAvailable:\s+(\d+) kB$/m.exec(await readFile('/proc/meminfo', 'utf8'))
  const ofSite = site.options.maxMemoryBytes === undefined ? Infinity : await freeMemoryBytes(site)
  return [
    { of: 'this host', bytes: Number(available?.[1] ?? 0) * 1024 },
    { of: 'the control group of this process', bytes: (await site.cgroups?.freeMemoryBytes()) ?? Infinity },
    { of: "the cloud's option maxMemoryBytes", bytes: ofSite },
  ]
}

async function growthOfChildren(site: ForkSite): Promise<number> {
  const [directories, processes] = await Promise.all([listChildDirectories(site), findForkProcesses(site.options.qemuBinary)])
  const growth = directories.map(async ({ parentId, directory }) => {
    const qemu = processes.get(join(directory, childFiles.run))?.qemu
    const [child, parent] = [await readChild(directory), await readParent(site, parentId)]
    if (!qemu || !child || !parent) return 0
    return Math.max(0, Math.min(child.limits.memoryBytes, mostBytes(parent)) - (await proportionalBytes(qemu.pid)))
  })
  return (await Promise.all(growth)).reduce((total, bytes) => total + bytes, 0)
}

const inMebibytes = (bytes: number) => `${Math.floor(bytes / 1024 / 1024)} MiB`
