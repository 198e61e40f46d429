/**
 * Making a VM so that a kill at any point leaves something that the same call completes: first the definition, which carries the operation's id,
 * then the volumes, then the mark that it is whole. Until that mark no guest has run, so volumes may be made anew.
 */
import { nameFault, ProviderError, type NewVirtualMachine, type Operation } from '../../src/plugin-sdk/index.ts'
import { requireCapacity } from './capacity.ts'
import { defineDomain, startMachine } from './power.ts'
import { domainXml, type LandingBoot } from './domain-xml.ts'
import { readMetadata, type MachineMetadata, type Stage } from './machine-metadata.ts'
import { nameRule } from './name-rule.ts'
import { readNetwork } from './networks.ts'
import type { Site } from './site.ts'
import { poolFor } from './storages.ts'
import { isNotFound } from './virsh-failure.ts'
import { volumeNames } from './volume-names.ts'

export interface Creation {
  virtualMachine: NewVirtualMachine
  /** The stage that the VM has once it is whole. */
  stage: Stage
  landing?: MachineMetadata['landing']
  /** Fills the volumes; what the definition needs to know of it. Called again after a kill. */
  fill(): Promise<{ landing?: LandingBoot }>
  /** Starts the VM at the end. */
  start: boolean
}

/** Throws CONFLICT where the name or the unique id is taken by another operation's VM. */
export async function createMachine(site: Site, operation: Operation, creation: Creation): Promise<{ vmId: string }> {
  const { operationId, signal } = operation
  const vm = { ...creation.virtualMachine, uniqueId: creation.virtualMachine.uniqueId.toLowerCase() }
  const vmId = vm.uniqueId
  return site.exclusively(vmId, signal, async () => {
    const known = await existing(site, vmId, signal)
    if (known && known.createdBy !== operationId) throw taken(vm)
    if (known?.operations.includes(operationId)) return { vmId }
    if (!known) {
      requirePlausible(vm)
      for (const disk of vm.disks) poolFor(site, disk)
      await requireNetworks(site, vm, signal)
    }
    if (!known || known.stage === 'creating')
      await makeWhole(site, operation, { ...creation, virtualMachine: vm }, known ? undefined : () => requireCapacity(site, vm, signal))
    if (creation.start) await startMachine(site, vmId, signal)
    await site.note(vmId, { operations: [operationId] }, signal)
    return { vmId }
  })
}

/** Definition, volumes, and the mark: from then on volumes are never made again. `admit` throws where there is no room for what isn't there yet. */
async function makeWhole(
  site: Site,
  { operationId, signal }: Operation,
  creation: Creation,
  admit: () => Promise<void> = async () => {},
): Promise<void> {
  const { virtualMachine: vm } = creation
  const metadata: MachineMetadata = {
    stage: 'creating',
    createdBy: operationId,
    bootedBy: operationId,
    landing: creation.landing,
    diskPools: vm.disks.flatMap(({ index, storageId: pool }) => (pool === undefined ? [] : [{ index, pool }])),
    ownNics: [],
    operations: [],
  }
  const names = volumeNames(vm)
  const directory = await site.volumes.directory(signal)
  const diskPaths = await Promise.all(
    vm.disks.map(async (disk, index) => `${await poolFor(site, disk).directory(signal)}/${names.disk(index)}`),
  )
  const define = async (stage: Stage, landing?: LandingBoot) => {
    const consolePath = `${directory}/${names.console}`
    const tree = domainXml(vm, {
      options: site.options,
      diskPaths,
      consolePath,
      metadata: { ...metadata, stage },
      ...(landing ? { landing } : {}),
    })
    await defineDomain(site, tree, signal)
  }
  await site.admitting(signal, admit, async () => {
    await define('creating')
    for (const [index, disk] of vm.disks.entries()) await poolFor(site, disk).createEmpty(names.disk(index), disk.sizeBytes, signal)
  })
  const { landing } = await creation.fill()
  await define(creation.stage, landing)
}

async function existing(site: Site, vmId: string, signal?: AbortSignal): Promise<MachineMetadata | undefined> {
  try {
    return readMetadata(await site.domain(vmId, signal))
  } catch (error) {
    if (isNotFound(error, 'domain')) return undefined
    throw error
  }
}

function requirePlausible(vm: NewVirtualMachine): void {
  const refuse = (message: string, remedy: string, ...path: string[]) =>
    new ProviderError('UNSUPPORTED', message, { retryable: false, remedy, path: ['virtualMachine', ...path] })
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(vm.uniqueId))
    throw refuse(
      `${JSON.stringify(vm.uniqueId.slice(0, 100))} is not a UUID; nothing was created.`,
      'Give the virtual machine a UUID.',
      'uniqueId',
    )
  const fault = nameFault(nameRule, vm.name)
  if (fault)
    throw refuse(
      `libvirt can't have a virtual machine with the name ${JSON.stringify(vm.name.slice(0, 100))}: a name ${fault}. Nothing was created.`,
      'Choose another name; nothing was made.',
      'name',
    )
  if (vm.disks.length === 0 || vm.disks.length > 20)
    throw refuse(
      `A virtual machine with ${vm.disks.length} disks can't be made here; nothing was created.`,
      'Give it 1 to 20 disks.',
      'disks',
    )
  if (vm.nics.length > 13)
    throw refuse(
      `A virtual machine with ${vm.nics.length} NICs can't be made here; nothing was created.`,
      'Give it at most 13 NICs.',
      'nics',
    )
  if (vm.disks.some((disk, index) => disk.index !== index) || vm.nics.some((nic, index) => nic.index !== index))
    throw refuse('Disks and NICs must be numbered from 0 in order; nothing was created.', 'Sort them by index.', 'disks')
}

async function requireNetworks(site: Site, vm: NewVirtualMachine, signal?: AbortSignal): Promise<void> {
  for (const { networkId, index } of vm.nics) {
    if (networkId.startsWith('bridge:') || (await readNetwork(site.client, networkId, signal))) continue
    throw new ProviderError('NOT_FOUND', `libvirt has no network ${JSON.stringify(networkId)}; nothing was created.`, {
      retryable: false,
      remedy: 'Choose a network that the topology shows.',
      path: ['virtualMachine', 'nics', String(index), 'networkId'],
    })
  }
}

function taken(vm: NewVirtualMachine): ProviderError {
  return new ProviderError(
    'CONFLICT',
    `The unique id ${vm.uniqueId} belongs to another virtual machine of this libvirt; nothing was changed.`,
    {
      retryable: false,
      remedy: 'Delete or rename that virtual machine, or choose another destination.',
      path: ['virtualMachine', 'uniqueId'],
    },
  )
}
