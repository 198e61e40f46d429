import { join } from 'node:path'
import type { PowerState, ProviderConnection, VirtualMachineDescription } from '../../src/plugin-sdk/index.ts'
import { diskFile, type Machine, userNetwork } from './machine.ts'
import { askStatus, findProcess, isAlive, type QemuProcess } from './qemu-process.ts'
import type { Site } from './site.ts'

export function describe(site: Site): ProviderConnection['virtualMachines']['describe'] {
  return async ({ vmId, signal }) => {
    const machine = await site.store.read(vmId)
    return describeMachine(site, machine, await findProcess(site.store.directoryOf(vmId)), signal)
  }
}

/** `process` is what the process table says of this VM now. */
export async function describeMachine(
  site: Site,
  machine: Machine,
  process: QemuProcess | null,
  signal: AbortSignal | undefined,
): Promise<VirtualMachineDescription> {
  const directory = site.store.directoryOf(machine.vmId)
  const reachable = process !== null && !machine.isolated
  return {
    id: machine.vmId,
    uniqueId: machine.vmId,
    name: machine.name,
    power: await powerOf(process, signal),
    hostId: site.options.host,
    architecture: 'x86_64',
    firmware: 'BIOS',
    cpuCount: machine.cpuCount,
    memoryBytes: machine.memoryBytes,
    disks: machine.disks.map(({ index, sizeBytes, storageId }) => ({
      id: `${machine.vmId}/disk-${index}`,
      index,
      sizeBytes,
      bus: 'virtio' as const,
      ...(site.options.storages.length > 0 && { storageId }),
      // The copied disk, also while its overlay takes the writes: that one is raw and comparable.
      ...(machine.testOf === null && { backingPath: join(directory, diskFile(index)) }),
    })),
    nics: machine.nics.map(({ index, mac }) => ({
      id: `${machine.vmId}/nic-${index}`,
      index,
      mac,
      networkId: userNetwork.id,
      addresses: [userNetwork.guestAddress],
    })),
    endpoints: reachable
      ? machine.forwards.map(({ guestPort, hostPort }) => ({ guestPort, host: site.host.forwardAddress, port: hostPort }))
      : [],
  }
}

/** QEMU's words for a guest that nothing but `cont` lets go on. Not `suspended`: that one sleeps, and wakes by itself. */
const heldStatuses = ['paused', 'io-error', 'internal-error']

export const isHeld = ({ status }: { status: string }) => heldStatuses.includes(status)

/** STOPPED only when the process is known gone; UNKNOWN when it lives and doesn't answer, or may run on without being told to. */
export async function powerOf(process: QemuProcess | null, signal: AbortSignal | undefined): Promise<PowerState> {
  if (!process) return 'STOPPED'
  try {
    const status = await askStatus(process, signal)
    if (status.running) return 'RUNNING'
    return isHeld(status) ? 'SUSPENDED' : 'UNKNOWN'
  } catch (error) {
    if (signal?.aborted) throw error
    return (await isAlive(process)) ? 'UNKNOWN' : 'STOPPED'
  }
}
