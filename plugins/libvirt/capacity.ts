/** Refuses a VM for which there is no room, before anything is made. */
import { ProviderError, type HostDescription, type NewVirtualMachine } from '../../src/plugin-sdk/index.ts'
import { describeMachine } from './describe-machine.ts'
import { readMemory } from './host.ts'
import { readMetadata } from './machine-metadata.ts'
import type { Site } from './site.ts'
import { isNotFound } from './virsh-failure.ts'

/** Disks are sparse, but a copy may fill them: their full size counts. */
export async function requireCapacity(site: Site, vm: NewVirtualMachine, signal?: AbortSignal): Promise<void> {
  const diskBytes = sum(vm.disks.map(({ sizeBytes }) => sizeBytes))
  for (const pool of new Set(vm.disks.map(({ storageId = site.options.storagePool }) => storageId))) {
    const there = vm.disks.filter(({ storageId = site.options.storagePool }) => storageId === pool)
    requireRoom('disk', sum(there.map(({ sizeBytes }) => sizeBytes)), await site.pool(pool).availableBytes(signal), {
      retryable: true,
      where: `in the storage pool ${pool}`,
    })
  }
  requireRoom('memory', vm.memoryBytes, (await readMemory(site.client, signal)).freeBytes, { retryable: true, where: 'on the host' })

  const { maxDiskBytes, maxMemoryBytes, maxVirtualMachines } = site.options.limits
  if (maxDiskBytes === undefined && maxMemoryBytes === undefined && maxVirtualMachines === undefined) return
  const ours = await machinesMadeHere(site, signal)
  // Those there give way to nobody by themselves.
  const limit = { retryable: false, where: "within the cloud's option limits" }
  if (maxDiskBytes !== undefined) requireRoom('disk', diskBytes, maxDiskBytes - sum(ours.map((machine) => machine.diskBytes)), limit)
  if (maxMemoryBytes !== undefined)
    requireRoom('memory', vm.memoryBytes, maxMemoryBytes - sum(ours.map((machine) => machine.memoryBytes)), limit)
  if (maxVirtualMachines !== undefined && ours.length >= maxVirtualMachines)
    throw insufficient(
      `There are ${ours.length} virtual machines of Portolan already, and the option limits allows ${maxVirtualMachines}.`,
      limit.retryable,
    )
}

/** The host as the cloud's option `limits` lets it be used: pre-flight sees what a new VM would be refused for. */
export async function withinLimits(site: Site, host: HostDescription, signal?: AbortSignal): Promise<HostDescription> {
  const { maxDiskBytes = Infinity, maxMemoryBytes = Infinity } = site.options.limits
  if (maxDiskBytes === Infinity && maxMemoryBytes === Infinity) return host
  const ours = await machinesMadeHere(site, signal)
  const left = (most: number, used: number[], free = Infinity) => Math.max(0, Math.min(free, most - sum(used)))
  const freeDiskBytes = left(
    maxDiskBytes,
    ours.map((machine) => machine.diskBytes),
    host.freeDiskBytes,
  )
  const freeMemoryBytes = left(
    maxMemoryBytes,
    ours.map((machine) => machine.memoryBytes),
    host.freeMemoryBytes,
  )
  return { ...host, ...(Number.isFinite(freeDiskBytes) && { freeDiskBytes }), ...(Number.isFinite(freeMemoryBytes) && { freeMemoryBytes }) }
}

async function machinesMadeHere(site: Site, signal?: AbortSignal): Promise<{ diskBytes: number; memoryBytes: number }[]> {
  const ids = (await site.client.look(['list', '--all', '--uuid'], { what: 'list the virtual machines', signal }))
    .split('\n')
    .filter(Boolean)
  const found = []
  for (const id of ids) {
    try {
      if (readMetadata(await site.domain(id, signal)).createdBy === undefined) continue
      const machine = await describeMachine(site, id, '', signal)
      found.push({ diskBytes: sum(machine.disks.map(({ sizeBytes }) => sizeBytes)), memoryBytes: machine.memoryBytes })
    } catch (error) {
      // It was deleted since it was listed.
      if (!isNotFound(error, 'domain')) throw error
    }
  }
  return found
}

function requireRoom(
  of: 'disk' | 'memory',
  neededBytes: number,
  availableBytes: number,
  { where, retryable }: { where: string; retryable: boolean },
): void {
  if (neededBytes <= availableBytes) return
  throw insufficient(
    `The virtual machine needs ${mebibytes(neededBytes)} MiB of ${of}, and ${where} there are ${mebibytes(Math.max(0, availableBytes))} MiB; nothing was created.`,
    retryable,
  )
}

function insufficient(message: string, retryable: boolean): ProviderError {
  return new ProviderError('INSUFFICIENT_CAPACITY', message, {
    retryable,
    remedy: 'Make room, raise the limit, or choose another destination.',
    path: ['virtualMachine'],
  })
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 1024 ** 2)
}
