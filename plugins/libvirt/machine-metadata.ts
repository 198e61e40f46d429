/**
 * What the plugin knows about a VM, kept in the domain itself, in an element of our own namespace: it survives this process and is seen over any URI.
 * libvirt writes it to disk with fsync and replaces it in one step. Only its persistent configuration counts; a transient domain has none, and is tagged live.
 *
 *   creating --> landing --> sealed --> booted --> ordinary
 *                   ^__________|__________|
 *
 * Single writer: this plugin, one operation a VM at a time (see site.ts).
 */
import type { LibvirtClient } from './client.ts'
import { childAt, childrenNamed, countIn, element, writeXml, type XmlElement } from './xml.ts'

const metadataNamespace = 'https://portolan.dev/xmlns/libvirt/1'
/** Late repetitions are told apart among this many of a VM's latest operations. */
const rememberedOperations = 64

/** foreign: not made by us. creating: volumes may be incomplete. landing: runs the landing image. sealed: on overlays. booted: runs the copied disk. test: see test-boot.ts. */
export type Stage = 'foreign' | 'creating' | 'landing' | 'sealed' | 'booted' | 'ordinary' | 'test'

export interface MachineMetadata {
  stage: Stage
  /** The operation that made the VM, and the one that last booted it otherwise than `start` does. */
  createdBy?: string | undefined
  bootedBy?: string | undefined
  /** Files on the plugin's machine: the landing image is uploaded again from there after a failed boot. */
  landing?: { kernelPath: string; initrdPath: string; commandLine: string } | undefined
  /** True while a VM that was off is up, paused, only for QEMU to merge its overlays. */
  startedToMerge?: boolean | undefined
  /** While a test's VM runs on the copied disks: the test's id. */
  test?: string | undefined
  /** Disks that are not in the first storage pool. */
  diskPools?: { index: number; pool: string }[]
  /** While the VM is isolated: its `<interface>` elements as they were, and are to be again. */
  ownNics: XmlElement[]
  /** While the VM is armed: what its definition is to be again. */
  fence?: MachineFence | undefined
  /** While the VM is adopted: what giving it back restores. */
  adopted?: AdoptedMachine | undefined
  /** Ids of operations that have ended, latest last. */
  operations: string[]
}

/** See fenced-definition.ts. `fenced`: nor is it resumed. */
export interface MachineFence {
  fenceId: string
  fenced: boolean
  /** Whether libvirt was to start it with the host. */
  autostart: boolean
  /** The `<disk>` elements of the definition as they were. */
  disks: { own: XmlElement; sizeBytes: number }[]
}

/** See adopt.ts. */
export interface AdoptedMachine {
  stage: Stage
  /** The `<os>` and `<disk>` elements of the definition as they were. */
  os: XmlElement
  disks: XmlElement[]
  fence?: MachineFence | undefined
}

export function readMetadata(domain: XmlElement): MachineMetadata {
  const machine = childAt(domain, 'metadata', 'machine')
  const landing = childAt(machine, 'landing')?.attributes
  return {
    stage: (machine?.attributes['stage'] as Stage | undefined) ?? 'foreign',
    createdBy: machine?.attributes['created-by'],
    bootedBy: machine?.attributes['booted-by'],
    ...(machine?.attributes['started-to-merge'] === 'yes' ? { startedToMerge: true } : {}),
    landing: landing && {
      kernelPath: landing['kernel'] ?? '',
      initrdPath: landing['initrd'] ?? '',
      commandLine: landing['command-line'] ?? '',
    },
    test: machine?.attributes['test'],
    diskPools: childrenNamed(machine, 'disk-pool').map(({ attributes }) => ({
      index: Number(attributes['index']),
      pool: attributes['pool'] ?? '',
    })),
    ownNics: childrenNamed(machine, 'interface').map(withoutPrefixes),
    fence: readFence(machine),
    adopted: readAdopted(childAt(machine, 'adopted')),
    operations: childrenNamed(machine, 'operation').map(({ attributes }) => attributes['id'] ?? ''),
  }
}

function readFence(holder: XmlElement | undefined): MachineFence | undefined {
  const fence = childAt(holder, 'fence')
  return (
    fence && {
      fenceId: fence.attributes['id'] ?? '',
      fenced: fence.attributes['fenced'] === 'yes',
      autostart: fence.attributes['autostart'] === 'yes',
      disks: childrenNamed(fence, 'own').flatMap((own) =>
        childrenNamed(own, 'disk').map((disk) => ({ own: withoutPrefixes(disk), sizeBytes: countIn(own.attributes['size-bytes']) })),
      ),
    }
  )
}

function readAdopted(adopted: XmlElement | undefined): AdoptedMachine | undefined {
  const os = childAt(adopted, 'os')
  return (
    adopted &&
    os && {
      stage: adopted.attributes['stage'] as Stage,
      os: withoutPrefixes(os),
      disks: childrenNamed(adopted, 'disk').map(withoutPrefixes),
      fence: readFence(adopted),
    }
  )
}

/** libvirt may give our prefix to everything inside our element. */
function withoutPrefixes(of: XmlElement): XmlElement {
  const { 'xmlns:portolan': _, ...attributes } = of.attributes
  return {
    name: of.name.replace(/^.*:/, ''),
    attributes,
    children: of.children.map((child) => (typeof child === 'string' ? child : withoutPrefixes(child))),
  }
}

/** The element as it stands inside `<metadata>`. */
export function metadataElement(metadata: MachineMetadata): XmlElement {
  const bare = bareElement(metadata)
  return { ...bare, name: `portolan:${bare.name}`, attributes: { 'xmlns:portolan': metadataNamespace, ...bare.attributes } }
}

function bareElement(metadata: MachineMetadata): XmlElement {
  const { landing, fence, adopted } = metadata
  return element(
    'machine',
    {
      stage: metadata.stage,
      'created-by': metadata.createdBy,
      'booted-by': metadata.bootedBy,
      test: metadata.test,
      'started-to-merge': metadata.startedToMerge ? 'yes' : undefined,
    },
    landing ? element('landing', { kernel: landing.kernelPath, initrd: landing.initrdPath, 'command-line': landing.commandLine }) : null,
    ...(metadata.diskPools ?? []).map(({ index, pool }) => element('disk-pool', { index, pool })),
    ...metadata.ownNics,
    fence ? fenceElement(fence) : null,
    adopted
      ? element('adopted', { stage: adopted.stage }, adopted.os, ...adopted.disks, adopted.fence ? fenceElement(adopted.fence) : null)
      : null,
    ...metadata.operations.slice(-rememberedOperations).map((id) => element('operation', { id })),
  )
}

function fenceElement({ fenceId, fenced, autostart, disks }: MachineFence): XmlElement {
  const flag = (set: boolean) => (set ? 'yes' : 'no')
  return element(
    'fence',
    { id: fenceId, fenced: flag(fenced), autostart: flag(autostart) },
    ...disks.map(({ own, sizeBytes }) => element('own', { 'size-bytes': sizeBytes }, own)),
  )
}

/** Replaces our element in the domain's persistent configuration (in the running one where there is no other). */
export async function writeMetadata(client: LibvirtClient, vmId: string, metadata: MachineMetadata, signal?: AbortSignal): Promise<void> {
  // libvirt adds the namespace and the prefix itself.
  const bare = writeXml(bareElement(metadata))
  const what = 'note the operation in the virtual machine'
  const tag = (where: '--config' | '--live') =>
    client.call(['metadata', '--domain', vmId, '--uri', metadataNamespace, '--key', 'portolan', '--set', bare, where], { what, signal })
  try {
    await tag('--config')
  } catch (error) {
    if (!(error instanceof Error) || !/transient domain/.test(error.message)) throw error
    await tag('--live')
  }
}
