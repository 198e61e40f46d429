/** A destination from its landing image to its copied disk, and back. Flattening, the last step, is in flatten-overlay.ts. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type ProviderConnection, ProviderError } from '../../src/plugin-sdk/index.ts'
import { forgetOverlay, turnToOverlays, writesToOverlay } from './block-graph.ts'
import { injectIntoLanding } from './create.ts'
import { requireUnarmed } from './fencing.ts'
import { launch } from './launch.ts'
import { diskFile, landingFiles, overlayFile } from './machine.ts'
import type { MachineChange } from './machine-store.ts'
import { control, endProcess, findProcess } from './qemu-process.ts'
import { runTool } from './run-tool.ts'
import type { Site } from './site.ts'

type CopiedDisks = Pick<ProviderConnection['destination'], 'sealCopiedDisks' | 'bootFromCopiedDisk' | 'discardOverlay'>

export function copiedDisks(site: Site): CopiedDisks {
  return {
    sealCopiedDisks: (operation) =>
      site.store.change('sealed', operation, async (change) => {
        requireUnarmed(change.machine)
        if (change.machine.boot !== 'LANDING') throw wrongPhase(change, 'its landing image does not run any more')
        await seal(site, change, operation.signal)
      }),

    bootFromCopiedDisk: (operation) =>
      site.store.change('booted', operation, async (change) => {
        requireUnarmed(change.machine)
        if (change.machine.boot === 'LANDING') {
          if (change.machine.disks.some(({ sealed }) => !sealed)) throw wrongPhase(change, 'its copied disks are not sealed')
          await endProcess(change.directory, operation.signal)
          await change.save({ boot: 'DISK', isolated: true, landedBy: null })
        }
        await rm(join(change.directory, landingFiles.initrd), { force: true })
        await launch(change, site.host, site.options.qemuBinary, operation.signal)
      }),

    discardOverlay: (operation) =>
      site.store.change('discarded', operation, async (change) => {
        requireUnarmed(change.machine)
        if (!change.machine.landing) throw wrongPhase(change, 'its overlay was merged, and the landing image forgotten')
        if (change.machine.landedBy !== operation.operationId) {
          await endProcess(change.directory, operation.signal)
          await injectIntoLanding(change.directory, operation.inject)
          const disks = change.machine.disks.map((disk) => ({ ...disk, sealed: false }))
          await change.save({ boot: 'LANDING', isolated: false, disks, flattening: null, landedBy: operation.operationId })
        }
        // A process here is the new landing image's, started before an interruption: it holds no overlay.
        for (const { index } of change.machine.disks) await rm(join(change.directory, overlayFile(index)), { force: true })
        await launch(change, site.host, site.options.qemuBinary, operation.signal)
      }),
  }
}

/** Live where the landing image runs. An interrupted call may have made the files, added them to QEMU, or turned QEMU to them already. */
async function seal(site: Site, change: MachineChange, signal: AbortSignal | undefined): Promise<void> {
  const { machine, directory } = change
  if (machine.disks.every(({ sealed }) => sealed)) return
  const process = await findProcess(directory)
  const makeOverlays = async () => {
    for (const disk of machine.disks) {
      await rm(join(directory, overlayFile(disk.index)), { force: true })
      const create = ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', diskFile(disk.index), overlayFile(disk.index)]
      await runTool(site.options.qemuImgBinary, create, { cwd: directory, signal, timeoutMs: 60_000 })
    }
  }
  if (process)
    await control(process, signal, async (session) => {
      const first = machine.disks[0]
      // One transaction turns all disks, so the first tells for all.
      if (first && (await writesToOverlay(session, first))) return
      for (const disk of machine.disks) await forgetOverlay(session, disk)
      await makeOverlays()
      await turnToOverlays(session, machine.disks, site.host.directIo)
    })
  else await makeOverlays()
  await change.save({ disks: machine.disks.map((disk) => ({ ...disk, sealed: true })) })
}

function wrongPhase({ machine }: MachineChange, why: string): ProviderError {
  return new ProviderError('CONFLICT', `The virtual machine ${machine.vmId} can't do this now: ${why}. It is as it was.`, {
    retryable: false,
    remedy: 'Describe the virtual machine, and take the step that fits its state.',
    path: ['vmId'],
  })
}
