import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { forgetOverlay, turnToOverlays, writesToOverlay } from './block-graph.ts'
import { copiedFile, overlayFile } from './machine.ts'
import type { MachineChange } from './machine-store.ts'
import { control, findProcess } from './qemu-process.ts'
import { runTool } from './run-tool.ts'
import type { Site } from './site.ts'

/** From here on all writes go to overlays. Live where the landing image runs. An interrupted call may have made the files, added them to QEMU, or turned QEMU to them already. */
export async function sealLive(site: Site, change: MachineChange, signal: AbortSignal | undefined): Promise<void> {
  const { machine, directory } = change
  if (machine.disks.every(({ sealed }) => sealed)) return
  const process = await findProcess(directory)
  const makeOverlays = async () => {
    for (const disk of machine.disks) {
      await rm(join(directory, overlayFile(disk.index)), { force: true })
      const { name, format } = copiedFile(machine, disk.index)
      const create = ['create', '-q', '-f', 'qcow2', '-F', format, '-b', name, overlayFile(disk.index)]
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
