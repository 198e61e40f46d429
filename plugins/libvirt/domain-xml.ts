/** The definition of a VM that the plugin makes, and the changes it makes to one. Everything is built as a tree, so that names are escaped in one place. */
import type { NewVirtualMachine } from '../../src/plugin-sdk/index.ts'
import { consoleLog } from './console.ts'
import { diskElements } from './describe-machine.ts'
import { metadataElement, type MachineMetadata } from './machine-metadata.ts'
import { nicSource } from './networks.ts'
import type { LibvirtOptions } from './options.ts'
import type { DiskFile } from './volumes.ts'
import { childAt, element, elementsOf, type XmlElement } from './xml.ts'

export interface LandingBoot {
  kernelPath: string
  initrdPath: string
  commandLine: string
}

/**
 * BIOS, q35, virtio throughout. libvirt rounds memory up to whole MiB, so a guest here can't have RAM off the 256 KiB grid on which QEMU's
 * software emulation loses dirty pages; nothing in this plugin migrates RAM.
 */
export function domainXml(
  vm: NewVirtualMachine,
  site: { options: LibvirtOptions; diskPaths: readonly string[]; consolePath: string; metadata: MachineMetadata; landing?: LandingBoot },
): XmlElement {
  const { options } = site
  const kvm = options.acceleration === 'kvm'
  const domain = element(
    'domain',
    { type: kvm ? 'kvm' : 'qemu' },
    element('name', {}, vm.name),
    element('uuid', {}, vm.uniqueId),
    element('metadata', {}, metadataElement(site.metadata)),
    element('memory', { unit: 'b' }, String(vm.memoryBytes)),
    vcpuElement(vm.cpuCount, kvm),
    element('os', {}, element('type', { arch: 'x86_64', machine: 'q35' }, 'hvm')),
    element('features', {}, element('acpi'), element('apic')),
    cpuElement(kvm),
    element('clock', { offset: 'utc' }),
    element('on_poweroff', {}, 'destroy'),
    element('on_reboot', {}, 'restart'),
    element('on_crash', {}, 'destroy'),
    element(
      'devices',
      {},
      ...vm.disks.map((_, index) => diskElement(index, site.diskPaths[index]!, options)),
      ...vm.nics.map(nicElement),
      consoleElement(vm.uniqueId, site),
      element('rng', { model: 'virtio' }, element('backend', { model: 'random' }, '/dev/urandom')),
      element('memballoon', { model: 'none' }),
    ),
  )
  setBoot(domain, site.landing)
  return domain
}

/** Without room for a second processor emulation leaves out the guest's memory barriers, and its virtio queues may stand still for good (see the qemu plugin's command line). */
function vcpuElement(cpuCount: number, kvm: boolean): XmlElement {
  return !kvm && cpuCount === 1 ? element('vcpu', { current: '1' }, '2') : element('vcpu', {}, String(cpuCount))
}

/** Serials let the guest's agent tell disks apart: letters depend on the order of probing. */
function diskElement(index: number, path: string, options: LibvirtOptions): XmlElement {
  return element(
    'disk',
    { type: 'file', device: 'disk' },
    element('driver', { name: 'qemu', type: 'raw', cache: options.diskCache, discard: 'unmap' }),
    element('source', { file: path }),
    element('target', { dev: `vd${String.fromCharCode(97 + index)}`, bus: 'virtio' }),
    element('serial', {}, serialOf(index)),
  )
}

function nicElement(nic: NewVirtualMachine['nics'][number]): XmlElement {
  const { type, source } = nicSource(nic.networkId)
  return element('interface', { type }, element('mac', { address: nic.mac }), source, element('model', { type: 'virtio' }))
}

function consoleElement(uniqueId: string, { options, consolePath }: { options: LibvirtOptions; consolePath: string }): XmlElement {
  if (options.consoleDirectory === undefined) return element('serial', { type: 'pty' }, consoleLog(consolePath))
  const source = element('source', { path: `${options.consoleDirectory}/${uniqueId}.log`, append: 'on' })
  return element('serial', { type: 'file' }, source, consoleLog(consolePath))
}

/** `<os>` for the landing image, or for booting from the first disk. */
function withBoot(os: XmlElement, landing?: LandingBoot): XmlElement {
  const kept = elementsOf(os).filter(({ name }) => !['kernel', 'initrd', 'cmdline', 'boot'].includes(name))
  const boot = landing
    ? [element('kernel', {}, landing.kernelPath), element('initrd', {}, landing.initrdPath), element('cmdline', {}, landing.commandLine)]
    : [element('boot', { dev: 'hd' })]
  return { ...os, children: [...kept, ...boot] }
}

/**
 * The landing image's agent finds disks by their serials. Where the pool is full QEMU stops an ordinary guest until there is room, which spares its data; the landing image is told, or its agent would stand still
 * without a word.
 */
export function setBoot(domain: XmlElement, landing?: LandingBoot): void {
  Object.assign(childAt(domain, 'os')!, withBoot(childAt(domain, 'os')!, landing))
  diskElements(domain).forEach((disk, index) => {
    const { attributes } = childAt(disk, 'driver')!
    for (const policy of ['error_policy', 'rerror_policy'])
      if (landing) attributes[policy] = 'report'
      else delete attributes[policy]
    if (landing) disk.children = [...elementsOf(disk).filter(({ name }) => name !== 'serial'), element('serial', {}, serialOf(index))]
  })
}

/** Replaces our element, and no other, in `<metadata>`. */
export function setMetadata(domain: XmlElement, metadata: MachineMetadata): void {
  if (!childAt(domain, 'metadata')) domain.children.unshift(element('metadata'))
  const holder = childAt(domain, 'metadata')!
  holder.children = [...elementsOf(holder).filter((child) => !/(^|:)machine$/.test(child.name)), metadataElement(metadata)]
}

/** What belongs to a NIC's connection, not to the NIC: the guest does not see it. */
const connectionElements = ['source', 'target', 'virtualport', 'vlan', 'bandwidth', 'portgroup', 'filterref', 'link', 'alias', 'backend']

/** Puts an interface onto a libvirt network, behind a filter, whatever it was on. The guest sees the same device. */
export function reconnectNic(nic: XmlElement, to: { network: string; filter: string }): void {
  nic.attributes = { type: 'network' }
  const kept = elementsOf(nic).filter(({ name }) => !connectionElements.includes(name))
  nic.children = [...kept, element('source', { network: to.network }), element('filterref', { filter: to.filter })]
}

/** Points the disks at other files. */
export function setDiskFiles(domain: XmlElement, files: readonly DiskFile[]): void {
  diskElements(domain).forEach((disk, index) => {
    const { path, format } = files[index]!
    childAt(disk, 'driver')!.attributes['type'] = format
    childAt(disk, 'source')!.attributes = { file: path }
    disk.children = elementsOf(disk).filter(({ name }) => name !== 'backingStore' && name !== 'mirror')
  })
}

/** By which the landing image's agent finds a disk. */
const serialOf = (index: number) => `portolan-disk-${index}`

/** Under emulation the plainest model: every vector instruction it lacks is one that QEMU would emulate slowly, ciphers' above all. */
function cpuElement(kvm: boolean): XmlElement {
  if (kvm) return element('cpu', { mode: 'host-passthrough' })
  return element('cpu', { mode: 'custom', match: 'exact' }, element('model', { fallback: 'allow' }, 'qemu64'))
}
