/** Overlays: what the guest writes after the copied disks were verified goes to qcow2 volumes above them, to be kept or dropped as a whole. */
import { setTimeout as pause } from 'node:timers/promises'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { cancelled } from './client.ts'
import { diskElements, diskPath, powerOf, targetOf } from './describe-machine.ts'
import { readMetadata } from './machine-metadata.ts'
import { destroyMachine, startMachine, wrongState } from './power.ts'
import type { Site } from './site.ts'
import { volumeNames } from './volume-names.ts'
import type { DiskFile } from './volumes.ts'
import { childAt, textOf, type XmlElement } from './xml.ts'

const pollIntervalMs = 200

export function machineOf(domain: XmlElement): { name: string; uniqueId: string } {
  return { name: textOf(childAt(domain, 'name')), uniqueId: textOf(childAt(domain, 'uuid')) }
}

interface OverlaidDisk {
  /** libvirt's name of the disk, such as `vda`. */
  target: string
  /** In the first pool. */
  overlayVolume: string
  sealed: boolean
}

function overlaidDisks(domain: XmlElement): OverlaidDisk[] {
  const names = volumeNames(machineOf(domain))
  return diskElements(domain).map((disk, index) => ({
    target: targetOf(disk),
    overlayVolume: names.overlay(index),
    sealed: diskPath(disk)?.endsWith(`/${names.overlay(index)}`) ?? false,
  }))
}

/** Puts all disks of a running VM onto overlays at one moment. Those of an earlier, killed call are complete or were never used. */
export async function seal(site: Site, vmId: string, signal?: AbortSignal): Promise<void> {
  const domain = await site.runningDomain(vmId, signal)
  const disks = overlaidDisks(domain)
  if (disks.every(({ sealed }) => sealed)) return
  if ((await powerOf(site, vmId, signal)) === 'STOPPED')
    throw wrongState(vmId, 'off, so its disks were not sealed', 'Seal them while the landing image runs.')
  const directory = await site.volumes.directory(signal)
  const below = await copiedDisks(site, await site.domain(vmId, signal), signal)
  for (const [index, { overlayVolume }] of disks.entries()) await site.volumes.createOverlay(overlayVolume, below[index]!, signal)
  const specifications = disks.flatMap(({ target, overlayVolume }) => [
    '--diskspec',
    `${target},snapshot=external,driver=qcow2,stype=file,file=${directory}/${overlayVolume}`,
  ])
  await site.client.call(
    ['snapshot-create-as', '--domain', vmId, '--disk-only', '--atomic', '--no-metadata', '--reuse-external', ...specifications],
    { what: `seal the disks of ${vmId}`, signal },
  )
}

/** The files that hold the copied bytes, in order: raw volumes, or, while the VM is adopted, overlays above its own disks. */
export async function copiedDisks(site: Site, domain: XmlElement, signal?: AbortSignal): Promise<DiskFile[]> {
  const names = volumeNames(machineOf(domain))
  const { adopted, diskPools } = readMetadata(domain)
  return Promise.all(
    diskElements(domain).map(async (_, index): Promise<DiskFile> => {
      if (adopted) return { path: `${await site.volumes.directory(signal)}/${names.received(index)}`, format: 'qcow2' }
      const pool = diskPools?.find((disk) => disk.index === index)?.pool
      return { path: `${await site.pool(pool).directory(signal)}/${names.disk(index)}`, format: 'raw' }
    }),
  )
}

export async function deleteOverlays(site: Site, domain: XmlElement, signal?: AbortSignal): Promise<void> {
  for (const { overlayVolume } of overlaidDisks(domain)) await site.volumes.delete(overlayVolume, signal)
}

/** What an adopted VM received. */
export async function deleteReceived(site: Site, domain: XmlElement, signal?: AbortSignal): Promise<void> {
  const names = volumeNames(machineOf(domain))
  for (const index of diskElements(domain).keys()) await site.volumes.delete(names.received(index), signal)
}

/**
 * Merges the overlays while the guest runs, and deletes them: into the copied disks, or as far down as the VM's own ones, which differ while it is adopted. QEMU does the
 * merging, also for a VM that is off: it is started paused, without an instruction of the guest, and ended again.
 */
export async function flatten(site: Site, vmId: string, into: 'COPIED' | 'OWN', signal?: AbortSignal): Promise<void> {
  const configured = await site.domain(vmId, signal)
  if (overlaidDisks(configured).some(({ sealed }) => sealed)) {
    if ((await powerOf(site, vmId, signal)) === 'STOPPED') {
      // Noted first: a call that takes over from a killed one has to know that the VM is to be off again.
      await site.note(vmId, { startedToMerge: true }, signal)
      await startMachine(site, vmId, signal, true)
    }
    const copied = readMetadata(configured).adopted && into === 'COPIED' ? await copiedDisks(site, configured, signal) : []
    const disks = overlaidDisks(await site.runningDomain(vmId, signal))
    for (const [index, { target, sealed }] of disks.entries()) if (sealed) await commitDisk(site, vmId, target, copied[index]?.path, signal)
  }
  if (readMetadata(await site.domain(vmId, signal)).startedToMerge) {
    // Somebody may have resumed it meanwhile: then it runs on.
    if ((await powerOf(site, vmId, signal)) === 'SUSPENDED') await destroyMachine(site, vmId, signal)
    await site.note(vmId, { startedToMerge: undefined }, signal)
  }
  await deleteOverlays(site, configured, signal)
}

/** Into the file `base`; without one into the lowest. */
async function commitDisk(site: Site, vmId: string, target: string, base: string | undefined, signal?: AbortSignal): Promise<void> {
  const what = `merge the overlay of ${target} of ${vmId}`
  const job = (...args: string[]) => site.client.call(['blockjob', '--domain', vmId, '--path', target, ...args], { what })
  try {
    // A job that a killed call left running is taken over.
    if (!(await mirrorOf(site, vmId, target)))
      await site.client.call(
        ['blockcommit', '--domain', vmId, '--path', target, '--active', ...(base === undefined ? [] : ['--base', base])],
        { what, signal },
      )
    while ((await mirrorOf(site, vmId, target))?.attributes['ready'] !== 'yes') {
      if (!(await mirrorOf(site, vmId, target))) throw ended(what)
      if (signal?.aborted) throw cancelled(what)
      await pause(pollIntervalMs)
    }
    await job('--pivot')
  } catch (error) {
    // The job goes on without us otherwise: a cancel says that nothing moves any more. The disk then stays on its overlay, whole.
    if (signal?.aborted && (await mirrorOf(site, vmId, target))) await job('--abort')
    throw error
  }
}

/** libvirt shows a job, and whether it has caught up with the guest, as `<mirror>` in the disk. */
async function mirrorOf(site: Site, vmId: string, target: string): Promise<XmlElement | undefined> {
  const disks = diskElements(await site.runningDomain(vmId))
  return childAt(
    disks.find((disk) => targetOf(disk) === target),
    'mirror',
  )
}

function ended(what: string): ProviderError {
  return new ProviderError(
    'INTERNAL',
    `Could not ${what}: QEMU ended the job before it was done; the disk is still on its overlay, whole.`,
    {
      retryable: true,
      remedy: "See QEMU's log of the domain on libvirt's host, make room in the storage pool, and try again.",
    },
  )
}
