/**
 * A VM that was left becomes a destination again, also one that somebody else made. The landing image writes to overlays above the VM's own disks, which stay as they were:
 *
 *   its own disk <-- ...-disk-N.received.qcow2: what is carried back <-- ...-disk-N.overlay.qcow2: what the copy writes once it boots
 *
 * All that giving back restores is in the domain's metadata, in the same definition that makes it a destination, which libvirt replaces as a whole. Flattening merges both
 * overlays and ends the adoption.
 */
import { dirname } from 'node:path'
import { type AdoptRequest, type ProviderConnection, ProviderError, testIdentity } from '../../src/plugin-sdk/index.ts'
import { deleteMachine } from './delete-machine.ts'
import { bytesOf, diskElements, diskPath, powerOf, targetOf } from './describe-machine.ts'
import { setBoot, setDiskFiles, setMetadata } from './domain-xml.ts'
import { factsOf, setAutostart } from './fencing.ts'
import { exposeConfiguration, isExposed } from './isolation.ts'
import { removeIsolatedNetwork } from './isolated-network.ts'
import { deleteLanding, requireMemory, uploadLanding } from './landing-volumes.ts'
import { readMetadata, type AdoptedMachine, type MachineFence } from './machine-metadata.ts'
import { copiedDisks, deleteOverlays, deleteReceived, machineOf } from './overlays.ts'
import { defineDomain, destroyMachine, startMachine, wrongState } from './power.ts'
import type { Site } from './site.ts'
import { storagePools } from './storages.ts'
import { volumeNames } from './volume-names.ts'
import type { DiskFile } from './volumes.ts'
import { childAt, type XmlElement } from './xml.ts'

export function adopt(site: Site): NonNullable<ProviderConnection['destination']['adopt']> {
  return {
    start: (request) =>
      site.once(request, async () => {
        const { operationId, vmId, signal } = request
        const { adopted, bootedBy } = readMetadata(await site.domain(vmId, signal))
        if (!adopted || bootedBy !== operationId) await becomeDestination(site, request)
        await startMachine(site, vmId, signal)
      }),

    giveBack: (operation) =>
      site.once(operation, async () => {
        const { vmId, signal } = operation
        const domain = await site.domain(vmId, signal)
        const metadata = readMetadata(domain)
        const { adopted, test } = metadata
        if (!adopted) return
        if (isExposed(domain)) throw wrongState(vmId, 'exposed, and what it received is its own', "See the migration's verdict.")
        if (test !== undefined) await deleteMachine(site, { ...operation, vmId: testIdentity(vmId, test).uniqueId })
        await destroyMachine(site, vmId, signal)
        // The definition goes last: until then it says what there is to give back.
        await deleteOverlays(site, domain, signal)
        await deleteReceived(site, domain, signal)
        await deleteLanding(site, machineOf(domain), signal)
        await removeIsolatedNetwork(site, vmId, signal)
        exposeConfiguration(domain)
        setOwnDefinition(domain, adopted)
        const { landing: _landing, adopted: _adopted, test: _test, startedToMerge: _merge, ...kept } = metadata
        setMetadata(domain, { ...kept, stage: adopted.stage, ownNics: [], fence: fenceGivenBack(metadata.fence, adopted) })
        await defineDomain(site, domain, signal)
      }),
  }
}

/** Nothing counts until the definition says so; what a killed call had written before is written anew. */
async function becomeDestination(site: Site, { operationId, vmId, fenceId, landing, inject, signal }: AdoptRequest): Promise<void> {
  const domain = await site.domain(vmId, signal)
  const metadata = readMetadata(domain)
  const { stage, fence } = metadata
  if (metadata.adopted || (stage !== 'foreign' && stage !== 'ordinary'))
    throw wrongState(vmId, `in the stage "${stage}"`, 'Only a virtual machine that is no copy is adopted.')
  if (fence && fence.fenceId !== fenceId)
    throw wrongState(vmId, `fenced by ${JSON.stringify(fence.fenceId)}`, 'Find out which copy is the live one.')
  if ((await powerOf(site, vmId, signal)) !== 'STOPPED' || (await factsOf(site, vmId, signal)).managedSave)
    throw wrongState(vmId, 'not off', 'Power it off, after making sure that it is not the live copy.')
  requireMemory(bytesOf(childAt(domain, 'memory')), landing)
  const ownDisks = await ownFiles(site, vmId, domain, signal)
  const adopted: AdoptedMachine = {
    stage,
    fence,
    os: structuredClone(childAt(domain, 'os')!),
    disks: structuredClone(diskElements(domain)),
  }
  const files = { kernelPath: landing.kernelPath, initrdPath: landing.initrdPath, commandLine: landing.commandLine }
  setMetadata(domain, { ...metadata, stage: 'landing', bootedBy: operationId, landing: files, fence: undefined, adopted })
  const names = volumeNames(machineOf(domain))
  for (const [index, own] of ownDisks.entries()) await site.volumes.createOverlay(names.received(index), own, signal)
  setDiskFiles(domain, await copiedDisks(site, domain, signal))
  setBoot(domain, await uploadLanding(site, machineOf(domain), files, inject, signal))
  await defineDomain(site, domain, signal)
}

/** Only what libvirt knows as a volume can be put below an overlay. */
async function ownFiles(site: Site, vmId: string, domain: XmlElement, signal?: AbortSignal): Promise<DiskFile[]> {
  const directories = await Promise.all(storagePools(site).map((name) => site.pool(name).directory(signal)))
  return diskElements(domain).map((disk): DiskFile => {
    const path = diskPath(disk)
    const format = childAt(disk, 'driver')?.attributes['type']
    const isFile = disk.attributes['type'] === 'file' && path !== undefined && directories.includes(dirname(path))
    if (isFile && (format === 'raw' || format === 'qcow2')) return { path, format }
    throw new ProviderError(
      'UNSUPPORTED',
      `The disk ${JSON.stringify(path ?? '')} of ${vmId} is not a raw or qcow2 file in a storage pool of this cloud, so nothing can be carried back to it. It is as it was.`,
      { retryable: false, remedy: "Add its pool to the cloud's option storagePools, or roll back without carrying writes back." },
    )
  })
}

/** Boots from the disks, in the way of the VM's own definition where it is adopted. */
export function setDiskBoot(domain: XmlElement): void {
  const { adopted } = readMetadata(domain)
  setBoot(domain)
  if (!adopted) return
  const files = diskElements(domain).map((disk): DiskFile => ({ path: diskPath(disk) ?? '', format: 'qcow2' }))
  setOwnDefinition(domain, adopted)
  setDiskFiles(domain, files)
}

function setOwnDefinition(domain: XmlElement, { os, disks }: AdoptedMachine): void {
  Object.assign(childAt(domain, 'os')!, structuredClone(os))
  diskElements(domain).forEach((disk, index) => Object.assign(disk, structuredClone(disks[index]!)))
}

/** One that was armed meanwhile knows as the VM's disks what was received, which is gone, and found an autostart that the fence before had switched off already. */
function fenceGivenBack(fence: MachineFence | undefined, adopted: AdoptedMachine): MachineFence | undefined {
  if (!fence) return adopted.fence
  const ownOf = (received: XmlElement) => adopted.disks.find((disk) => targetOf(disk) === targetOf(received)) ?? received
  return {
    ...fence,
    autostart: fence.autostart || adopted.fence?.autostart === true,
    disks: fence.disks.map(({ own, sizeBytes }) => ({ own: ownOf(own), sizeBytes })),
  }
}

/** After its overlays were merged: the VM is what it was before, with what it received on its own disks. */
export async function endAdoption(site: Site, vmId: string, signal?: AbortSignal): Promise<void> {
  const domain = await site.domain(vmId, signal)
  const { adopted, landing: _landing, ...kept } = readMetadata(domain)
  if (!adopted) return
  if (adopted.fence?.autostart) await setAutostart(site, vmId, true, signal)
  setOwnDefinition(domain, adopted)
  setMetadata(domain, { ...kept, stage: adopted.stage })
  await defineDomain(site, domain, signal)
}
