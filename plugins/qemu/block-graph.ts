import { overlayNode } from './command-line.ts'
import type { MachineDisk } from './machine.ts'
import { QmpError, unreadable, type QmpSession } from './qmp.ts'

/** What of QEMU's answer is read; nothing in it is sure to be there. */
interface BlockDevice {
  qdev?: unknown
  inserted?: { 'node-name'?: unknown }
}

/** Whether the guest's writes to the disk go to its overlay now, in the running QEMU. */
export async function writesToOverlay(session: QmpSession, disk: MachineDisk): Promise<boolean> {
  const devices = await objects<BlockDevice>(session, 'query-block')
  const device = devices.find(({ qdev }) => typeof qdev === 'string' && qdev.startsWith(`/machine/peripheral/virtio-disk${disk.index}/`))
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
  const nodes = await objects<{ 'node-name'?: unknown }>(session, 'query-named-block-nodes', { flat: true })
  return nodes.some((node) => node['node-name'] === name)
}

/** One overlay's merge, as QEMU's jobs tell it. */
export interface MergeJob {
  status: string
  error?: string
}

const jobId = (disk: MachineDisk) => `flatten${disk.index}`

async function findMerge(session: QmpSession, disk: MachineDisk): Promise<MergeJob | undefined> {
  const job = (await objects<{ id?: unknown; status?: unknown; error?: unknown }>(session, 'query-jobs')).find(
    ({ id }) => id === jobId(disk),
  )
  if (!job) return undefined
  const { status, error } = job
  if (typeof status !== 'string') throw unreadable('query-jobs')
  return typeof error === 'string' ? { status, error } : { status }
}

/** QEMU's list of objects. Throws ProviderError INTERNAL where its answer is none: what is unreadable must not pass for absent. */
async function objects<Item extends object>(session: QmpSession, command: string, given?: Record<string, unknown>): Promise<Item[]> {
  const answer = await session.execute(command, given)
  if (Array.isArray(answer) && answer.every((item) => typeof item === 'object' && item !== null)) return answer as Item[]
  throw unreadable(command)
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
