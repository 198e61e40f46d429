/**
 * Merging a disk's overlay into it, live.
 *
 * QEMU copies the overlay down while the guest writes, then the guest's writes turn back to the disk (the pivot). Were QEMU to end right after the
 * pivot, an overlay that vm.json still names would be older than the disk below it, and starting from it would corrupt the disk. So the guest is
 * held from before the pivot until vm.json says that the overlay is gone: in between both hold the same, and either is right. It takes milliseconds.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ProviderConnection, ProviderError } from '../../src/plugin-sdk/index.ts'
import { completeMerge, dismissMerge, forgetNode, forgetOverlay, hasNode, mergeJob, writesToOverlay } from './block-graph.ts'
import { retainedNode } from './command-line.ts'
import { requireUnarmed } from './fencing.ts'
import { diskFile, landingFiles, type Machine, type MachineDisk, overlayFile, receivedFile } from './machine.ts'
import type { MachineChange } from './machine-store.ts'
import { askStatus, control, findProcess, type QemuProcess } from './qemu-process.ts'
import { runTool } from './run-tool.ts'
import type { Site } from './site.ts'
import { wrongPhase } from './wrong-phase.ts'

const mergeTimeoutMs = 60 * 60_000

export function flattenOverlay(site: Site): ProviderConnection['destination']['flattenOverlay'] {
  return (operation) =>
    site.store.change('flattened', operation, async (change) => {
      requireUnarmed(change.machine)
      if (change.machine.boot !== 'DISK') throw stillLanding(change.machine.vmId)
      if (change.machine.testOf) throw wrongPhase(change, 'it is a test, whose disks are those of another virtual machine')
      await mergeOverlays(site, change, 'OWN', operation.signal)
      for (const { index } of change.machine.disks) await rm(join(change.directory, receivedFile(index)), { force: true })
      await rm(join(change.directory, landingFiles.directory), { recursive: true, force: true })
      await change.save({ landing: null })
    })
}

/** Into the copied disks, or further down into the VM's own ones: they differ while it is adopted, and in one merge that ends. */
type MergeInto = 'COPIED' | 'OWN'

/** Brings the overlays of all disks into the disks, whether the VM runs or not, and removes them. */
export async function mergeOverlays(site: Site, change: MachineChange, into: MergeInto, signal: AbortSignal | undefined): Promise<void> {
  const process = await findProcess(change.directory)
  if (process) await mergeLive(change, process, into, signal)
  else await mergePoweredOff(site, change, into, signal)
  for (const { index } of change.machine.disks) await rm(join(change.directory, overlayFile(index)), { force: true })
  await change.save({ flattening: null })
}

async function mergeLive(change: MachineChange, process: QemuProcess, into: MergeInto, signal: AbortSignal | undefined): Promise<void> {
  const merge: Merge = { process, base: into === 'OWN' && change.machine.adopted ? retainedNode : ({ index }) => `disk${index}` }
  const sealed = change.machine.disks.filter((disk) => disk.sealed)
  if (sealed.length > 0) {
    await untilAll(merge, sealed, ['ready', 'concluded', 'pivoted'], signal)
    if (!change.machine.flattening) await change.save({ flattening: { resumeAfter: (await askStatus(process, signal)).running } })
    await pivot(merge, sealed, signal)
    await change.save(merged(change.machine, into))
  }
  await control(process, signal, async (session) => {
    if (change.machine.flattening?.resumeAfter) await session.execute('cont')
    for (const disk of change.machine.disks) {
      await forgetOverlay(session, disk)
      if (!change.machine.adopted && (await hasNode(session, retainedNode(disk)))) await forgetNode(session, `disk${disk.index}`)
    }
  })
}

/** The running QEMU, and the node that a disk's overlay goes into. */
interface Merge {
  process: QemuProcess
  base(disk: MachineDisk): string
}

/** The guest is held when this returns, and also when it throws: the repeated call goes on from there. */
async function pivot(merge: Merge, disks: MachineDisk[], signal: AbortSignal | undefined): Promise<void> {
  const { process, base } = merge
  await control(process, signal, async (session) => {
    await session.execute('stop')
    for (const disk of disks) if ((await mergeJob(session, disk, base(disk))).status === 'ready') await completeMerge(session, disk)
  })
  await untilAll(merge, disks, ['concluded', 'pivoted'], signal)
  await control(process, signal, async (session) => {
    for (const disk of disks) {
      await dismissMerge(session, disk)
      if (await writesToOverlay(session, disk)) throw mergeFailed(disk, 'QEMU did not turn back to the disk. The guest is held')
    }
  })
}

/** Waits, in short sessions, until each disk's merge has one of the states. Throws when a job ended with an error. */
async function untilAll({ process, base }: Merge, disks: MachineDisk[], states: string[], signal: AbortSignal | undefined): Promise<void> {
  for (;;) {
    const waiting = await control(process, signal, async (session) => {
      let count = 0
      for (const disk of disks) {
        const job = await mergeJob(session, disk, base(disk))
        if (job.error !== undefined) {
          await dismissMerge(session, disk)
          throw mergeFailed(disk, job.error)
        }
        if (!states.includes(job.status)) count++
      }
      return count
    })
    if (waiting === 0) return
    await sleep(50, undefined, { signal })
  }
}

/** Repeating it is safe: it writes the same again. */
async function mergePoweredOff(site: Site, change: MachineChange, into: MergeInto, signal: AbortSignal | undefined): Promise<void> {
  for (const disk of change.machine.disks.filter(({ sealed }) => sealed)) {
    const base = into === 'OWN' && change.machine.adopted ? ['-b', diskFile(disk.index)] : ['-d']
    await runTool(site.options.qemuImgBinary, ['commit', '-q', ...base, '-f', 'qcow2', overlayFile(disk.index)], {
      cwd: change.directory,
      signal,
      timeoutMs: mergeTimeoutMs,
    })
  }
  await change.save(merged(change.machine, into))
}

/** In one step: an overlay that is merged is older than what the guest writes next. */
function merged({ disks, adopted }: Machine, into: MergeInto): Partial<Machine> {
  return { disks: disks.map((disk) => ({ ...disk, sealed: false })), adopted: into === 'OWN' ? null : adopted }
}

function mergeFailed(disk: MachineDisk, why: string): ProviderError {
  return new ProviderError(
    'INTERNAL',
    `The overlay of disk ${disk.index} could not be merged: ${why}. The overlay is kept, and nothing is lost.`,
    {
      retryable: true,
      remedy: 'Free disk space where that is missing, and call again.',
      path: ['disks', String(disk.index)],
    },
  )
}

function stillLanding(vmId: string): ProviderError {
  return new ProviderError(
    'CONFLICT',
    `The virtual machine ${vmId} still runs its landing image, so there is no overlay to merge. It is as it was.`,
    {
      retryable: false,
      remedy: 'Boot it from the copied disk first.',
      path: ['vmId'],
    },
  )
}
