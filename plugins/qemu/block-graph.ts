import { overlayNode } from './command-line.ts'
import type { MachineDisk } from './machine.ts'
import { QmpError, type QmpSession } from './qmp.ts'

/** What of QEMU's answer is read. */
interface BlockDevice {
  qdev?: string
  inserted?: { 'node-name'?: string }
}

/** Whether the guest's writes to the disk go to its overlay now, in the running QEMU. */
export async function writesToOverlay(session: QmpSession, disk: MachineDisk): Promise<boolean> {
  const devices = await session.execute<BlockDevice[]>('query-block')
  const device = devices.find(({ qdev }) => qdev?.startsWith(`/machine/peripheral/virtio-disk${disk.index}/`))
  return device?.inserted?.['node-name'] === `overlay${disk.index}`
}

/** From here on the guest's writes go to the overlays; all disks turn at once. The overlay files are there, empty. */
export async function turnToOverlays(session: QmpSession, disks: MachineDisk[], directIo: boolean): Promise<void> {
  for (const disk of disks) await session.execute('blockdev-add', { ...overlayNode(disk, { directIo }), backing: null })
  await session.execute('transaction', {
    actions: disks.map(({ index }) => ({ type: 'blockdev-snapshot', data: { node: `disk${index}`, overlay: `overlay${index}` } })),
  })
}

/** Closes an overlay's file where QEMU has it open without using it. */
export async function forgetOverlay(session: QmpSession, disk: MachineDisk): Promise<void> {
  await forgetNode(session, `overlay${disk.index}`)
}

export async function forgetNode(session: QmpSession, name: string): Promise<void> {
  if (await hasNode(session, name)) await session.execute('blockdev-del', { 'node-name': name })
}

export async function hasNode(session: QmpSession, name: string): Promise<boolean> {
  const nodes = await session.execute<{ 'node-name'?: string }[]>('query-named-block-nodes', { flat: true })
  return nodes.some((node) => node['node-name'] === name)
}

/** One overlay's merge, as QEMU's jobs tell it. */
export interface MergeJob {
  status: string
  error?: string
}

const jobId = (disk: MachineDisk) => `flatten${disk.index}`

async function findMerge(session: QmpSession, disk: MachineDisk): Promise<MergeJob | undefined> {
  return (await session.execute<(MergeJob & { id: string })[]>('query-jobs')).find(({ id }) => id === jobId(disk))
}

/** The job that merges the disk's overlay into the node `base`, started unless it is there. It stays visible at its end, until dismissed. */
export async function mergeJob(session: QmpSession, disk: MachineDisk, base: string): Promise<MergeJob> {
  const running = await findMerge(session, disk)
  if (running) return running
  if (!(await writesToOverlay(session, disk))) return { status: 'pivoted' }
  const nodes = { device: `overlay${disk.index}`, 'base-node': base }
  await session.execute('block-commit', { 'job-id': jobId(disk), ...nodes, 'auto-dismiss': false })
  return (await findMerge(session, disk)) ?? { status: 'created' }
}

/** Asks a job that is ready to put the guest's writes back on the disk. */
export async function completeMerge(session: QmpSession, disk: MachineDisk): Promise<void> {
  await session.execute('job-complete', { id: jobId(disk) })
}

/** Forgets a job that has ended. What a killed call has sent may reach QEMU between our look and our word: one that is gone is forgotten. */
export async function dismissMerge(session: QmpSession, disk: MachineDisk): Promise<void> {
  try {
    await session.execute('job-dismiss', { id: jobId(disk) })
  } catch (error) {
    if (!(error instanceof QmpError) || (await findMerge(session, disk))) throw error
  }
}
