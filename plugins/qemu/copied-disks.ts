/** A destination from its landing image to its copied disk, and back. Flattening, the last step, is in flatten-overlay.ts. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { ProviderConnection } from '../../src/plugin-sdk/index.ts'
import { injectIntoLanding } from './create.ts'
import { requireUnarmed } from './fencing.ts'
import { launch } from './launch.ts'
import { landingFiles, overlayFile } from './machine.ts'
import { endProcess } from './qemu-process.ts'
import { sealLive } from './seal.ts'
import type { Site } from './site.ts'
import { endTest } from './test-boot.ts'
import { wrongPhase } from './wrong-phase.ts'

type CopiedDisks = Pick<ProviderConnection['destination'], 'sealCopiedDisks' | 'bootFromCopiedDisk' | 'discardOverlay'>

export function copiedDisks(site: Site): CopiedDisks {
  return {
    sealCopiedDisks: (operation) =>
      site.store.change('sealed', operation, async (change) => {
        requireUnarmed(change.machine)
        if (change.machine.boot !== 'LANDING') throw wrongPhase(change, 'its landing image does not run any more')
        if (change.machine.test) throw wrongPhase(change, 'a test runs on its copied disks')
        await sealLive(site, change, operation.signal)
      }),

    bootFromCopiedDisk: (operation) =>
      site.store.change('booted', operation, async (change) => {
        requireUnarmed(change.machine)
        if (change.machine.test) throw wrongPhase(change, 'a test runs on its copied disks')
        if (change.machine.boot === 'LANDING') {
          if (change.machine.disks.some(({ sealed }) => !sealed)) throw wrongPhase(change, 'its copied disks are not sealed')
          await endProcess(change.directory, operation.signal)
          await change.save({ boot: 'DISK', isolated: true, landedBy: null })
        }
        await rm(join(change.directory, landingFiles.initrd), { force: true })
        await launch(site, change, operation.signal)
      }),

    discardOverlay: (operation) =>
      site.store.change('discarded', operation, async (change) => {
        const { boot, isolated } = change.machine
        requireUnarmed(change.machine)
        if (boot === 'DISK' && !isolated) throw wrongPhase(change, 'it was exposed, and what it wrote since is the only copy')
        // What was received during a test is kept.
        await endTest(site, change, operation.signal)
        if (!change.machine.landing) throw wrongPhase(change, 'its overlay was merged, and the landing image forgotten')
        if (change.machine.landedBy !== operation.operationId) {
          await endProcess(change.directory, operation.signal)
          await injectIntoLanding(change.directory, operation.inject)
          const disks = change.machine.disks.map((disk) => ({ ...disk, sealed: false }))
          await change.save({ boot: 'LANDING', isolated: false, disks, flattening: null, landedBy: operation.operationId })
        }
        // A process here is the new landing image's, started before an interruption: it holds no overlay.
        for (const { index } of change.machine.disks) await rm(join(change.directory, overlayFile(index)), { force: true })
        await launch(site, change, operation.signal)
      }),
  }
}
