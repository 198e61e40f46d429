/** A domain, made by us or not, in the contract's words. */
import {
  ProviderError,
  type DiskDescription,
  type NicDescription,
  type PowerState,
  type VirtualMachineDescription,
} from '../../src/plugin-sdk/index.ts'
import { readMetadata } from './machine-metadata.ts'
import { leasedAddresses, networkIdOf, readNetwork } from './networks.ts'
import type { Site } from './site.ts'
import { findStorages } from './storages.ts'
import { childAt, childrenNamed, countIn, textOf, type XmlElement } from './xml.ts'

/** Throws NOT_FOUND only when libvirtd said that there is no such domain. */
export async function describeMachine(site: Site, vmId: string, hostId: string, signal?: AbortSignal): Promise<VirtualMachineDescription> {
  const [tree, power] = await Promise.all([site.runningDomain(vmId, signal), powerOf(site, vmId, signal)])
  const [disks, nics] = await Promise.all([disksOf(site, tree, vmId, signal), nicsOf(site, tree, power, signal)])
  const architecture = childAt(tree, 'os', 'type')?.attributes['arch']
  return {
    id: vmId,
    uniqueId: textOf(childAt(tree, 'uuid')).toLowerCase(),
    name: textOf(childAt(tree, 'name')),
    power,
    hostId,
    architecture: architecture === 'aarch64' ? 'aarch64' : 'x86_64',
    firmware: hasUefi(tree) ? 'UEFI' : 'BIOS',
    cpuCount: cpuCountOf(tree),
    memoryBytes: bytesOf(childAt(tree, 'memory')),
    disks,
    nics,
  }
}

const powerStates = new Map<string, PowerState>([
  ['running', 'RUNNING'],
  ['paused', 'SUSPENDED'],
  ['shut off', 'STOPPED'],
])

/** What is neither running, paused nor off (being saved, crashed, no answer from QEMU) is UNKNOWN, never taken for stopped. */
export async function powerOf(site: Site, vmId: string, signal?: AbortSignal): Promise<PowerState> {
  const state = await site.client.look(['domstate', '--domain', vmId], { what: `ask for the state of the virtual machine ${vmId}`, signal })
  return powerStates.get(state) ?? 'UNKNOWN'
}

/** Those that are there, of those that there is room for. */
export function cpuCountOf(domain: XmlElement): number {
  const vcpu = childAt(domain, 'vcpu')
  return countIn(vcpu?.attributes['current'] ?? textOf(vcpu)) || 1
}

function hasUefi(domain: XmlElement): boolean {
  const os = childAt(domain, 'os')
  return os?.attributes['firmware'] === 'efi' || childAt(os, 'loader')?.attributes['type'] === 'pflash'
}

const unitBytes = new Map(
  Object.entries({ b: 1, bytes: 1, KiB: 1024, k: 1024, MiB: 1024 ** 2, M: 1024 ** 2, GiB: 1024 ** 3, G: 1024 ** 3 }),
)

/** 0 where it is no number of bytes. */
export function bytesOf(memory: XmlElement | undefined): number {
  return countIn(String(countIn(textOf(memory)) * (unitBytes.get(memory?.attributes['unit'] ?? 'KiB') ?? 1024)))
}

/** `<disk>` elements that are disks to the guest: no CD-ROM, no floppy. */
export function diskElements(domain: XmlElement): XmlElement[] {
  return childrenNamed(childAt(domain, 'devices'), 'disk').filter(({ attributes }) => (attributes['device'] ?? 'disk') === 'disk')
}

const overlayEnding = '.overlay.qcow2'

/** libvirt's name of a disk, such as `vda`. */
export function targetOf(disk: XmlElement): string {
  return childAt(disk, 'target')?.attributes['dev'] ?? ''
}

/** A disk's file, device, or whatever else its source names. */
export function diskPath(disk: XmlElement): string | undefined {
  const source = childAt(disk, 'source')?.attributes ?? {}
  return source['file'] ?? source['dev'] ?? source['volume'] ?? source['name']
}

async function disksOf(site: Site, domain: XmlElement, vmId: string, signal?: AbortSignal): Promise<DiskDescription[]> {
  const { stage, fence, adopted, diskPools } = readMetadata(domain)
  const fenced = fence?.disks ?? []
  const storages = await findStorages(site, signal)
  return Promise.all(
    diskElements(domain).map(async (disk, index) => {
      const target = targetOf(disk)
      const path = diskPath(adopted?.disks[index] ?? disk)
      // Under an overlay it is the copied disk that can be compared, and whose place counts.
      const pool = diskPools?.find((disk) => disk.index === index)?.pool
      const backingPath = path?.endsWith(overlayEnding) ? storages.copiedDisk(path.replace(overlayEnding, '.raw'), pool) : path
      const storageId = storages.storageOf(backingPath)
      return {
        id: target,
        index,
        // libvirt can't measure the disks of a fenced domain that is off.
        sizeBytes: fenced.find(({ own }) => targetOf(own) === target)?.sizeBytes ?? (await diskSizeBytes(site, vmId, target, signal)),
        bus: busOf(childAt(disk, 'target')?.attributes['bus']),
        ...(storageId !== undefined && { storageId }),
        ...(backingPath !== undefined && stage !== 'test' && { backingPath }),
      }
    }),
  )
}

/** 0 where libvirt doesn't know: a network disk of a stopped domain, or a file that is gone. That must not hide the domain. */
export async function diskSizeBytes(site: Site, vmId: string, target: string, signal?: AbortSignal): Promise<number> {
  try {
    const lines = await site.client.look(['domblkinfo', '--domain', vmId, '--device', target], {
      what: `measure the disk ${target} of ${vmId}`,
      signal,
    })
    return countIn(/^Capacity:\s*(\d+)/m.exec(lines)?.[1])
  } catch (error) {
    if (!(error instanceof ProviderError && ['INTERNAL', 'UNSUPPORTED'].includes(error.code))) throw error
    site.log('warn', error.message, { vmId, target })
    return 0
  }
}

/** USB storage and virtio-scsi both speak SCSI to the guest. */
function busOf(bus: string | undefined): DiskDescription['bus'] {
  return bus === 'virtio' || bus === 'sata' || bus === 'ide' || bus === 'nvme' ? bus : 'scsi'
}

export function nicElements(domain: XmlElement): XmlElement[] {
  return childrenNamed(childAt(domain, 'devices'), 'interface')
}

export function macOf(nic: XmlElement): string {
  return (childAt(nic, 'mac')?.attributes['address'] ?? '').toLowerCase()
}

async function nicsOf(site: Site, domain: XmlElement, power: PowerState, signal?: AbortSignal): Promise<NicDescription[]> {
  const { ownNics } = readMetadata(domain)
  return Promise.all(
    nicElements(domain).map(async (nic, index) => {
      const mac = macOf(nic)
      const connected = networkIdOf(nic)
      // An isolated VM is still of its own networks.
      const own = ownNics.find((candidate) => macOf(candidate) === mac) ?? nic
      const up = power === 'RUNNING' || power === 'SUSPENDED'
      const network = up && nic.attributes['type'] === 'network' ? await readNetwork(site.client, connected, signal) : undefined
      return {
        id: mac,
        index,
        mac,
        networkId: networkIdOf(own),
        addresses: network ? await leasedAddresses(site.client, network, mac, signal) : [],
      }
    }),
  )
}
