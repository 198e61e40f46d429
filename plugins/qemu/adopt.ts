/**
 * A VM that was left becomes a destination again. The landing image writes to overlays above the VM's own disks, which stay as they were:
 *
 *   disk-N.raw <-- received-N.qcow2: what is carried back <-- overlay-N.qcow2: what the copy writes once it boots
 *
 * All that giving back restores is in vm.json, written in the same step that makes the VM a destination. Flattening (flatten-overlay.ts) merges both overlays, and with
 * that the VM is not adopted any more.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { AdoptRequest, ProviderConnection } from '../../src/plugin-sdk/index.ts'
import { asCapacityError, requireRoom } from './capacity.ts'
import { injectIntoLanding, keepLandingImage, landingBytes } from './create.ts'
import { requireNoOther } from './fencing.ts'
import { pickForwards } from './forward-ports.ts'
import { launch } from './launch.ts'
import { diskFile, type Forward, landingFiles, overlayFile, receivedFile } from './machine.ts'
import type { MachineChange } from './machine-store.ts'
import { endProcess, findProcess } from './qemu-process.ts'
import { runTool } from './run-tool.ts'
import type { Site } from './site.ts'
import { removeTestMachine } from './test-boot.ts'
import { wrongPhase } from './wrong-phase.ts'

export function adopt(site: Site): NonNullable<ProviderConnection['destination']['adopt']> {
  return {
    start: (request) =>
      site.store.change('adopted', request, async (change) => {
        if (change.machine.landedBy !== request.operationId) await becomeDestination(site, change, request)
        await launch(site, change, request.signal)
      }),

    giveBack: (operation) =>
      site.store.change('given-back', operation, async (change) => {
        const { adopted, boot, isolated, test, vmId } = change.machine
        if (!adopted) return
        if (boot === 'DISK' && !isolated) throw wrongPhase(change, 'it was exposed, and what it received is its own')
        if (test) await removeTestMachine(site, vmId, test.testId, operation.signal)
        await endProcess(change.directory, operation.signal)
        await removeReceived(change)
        await change.save({
          fence: change.machine.fence ?? adopted.fence,
          forwards: adopted.forwards,
          adopted: null,
          boot: 'DISK',
          isolated: false,
          landing: null,
          landedBy: null,
          flattening: null,
          test: null,
          disks: change.machine.disks.map((disk) => ({ ...disk, sealed: false })),
        })
      }),
  }
}

/** Nothing counts until vm.json says so; what a killed call had written before is written anew. */
async function becomeDestination(site: Site, change: MachineChange, request: AdoptRequest): Promise<void> {
  const { machine, directory } = change
  const { landing, signal } = request
  if (machine.adopted || machine.landing || machine.testOf) throw wrongPhase(change, 'it is a destination already')
  if (machine.fence) requireNoOther(machine, request.fenceId)
  if (await findProcess(directory)) throw wrongPhase(change, 'it is not powered off')
  const { commandLine, memoryBytes } = landing
  // What is received is mostly little, and a host that is full tells the landing image.
  await requireRoom(site, { ...machine, landing: { commandLine, memoryBytes }, disks: [] }, await landingBytes(landing))
  await removeReceived(change)
  try {
    await keepLandingImage(directory, landing)
    await injectIntoLanding(directory, request.inject)
    for (const { index } of machine.disks) {
      const create = ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', diskFile(index), receivedFile(index)]
      await runTool(site.options.qemuImgBinary, create, { cwd: directory, signal, timeoutMs: 60_000 })
    }
  } catch (error) {
    await removeReceived(change)
    throw asCapacityError(error)
  }
  await change.save({
    adopted: { fence: machine.fence, forwards: machine.forwards },
    forwards: await withPorts(machine.forwards, site.host.forwardAddress, request.inboundPorts),
    fence: null,
    boot: 'LANDING',
    isolated: false,
    landing: { commandLine, memoryBytes },
    landedBy: request.operationId,
  })
}

async function removeReceived({ machine, directory }: MachineChange): Promise<void> {
  await rm(join(directory, landingFiles.directory), { recursive: true, force: true })
  for (const { index } of machine.disks)
    for (const file of [overlayFile(index), receivedFile(index)]) await rm(join(directory, file), { force: true })
}

/** Ports that are forwarded already stay where they are known. */
async function withPorts(forwards: Forward[], address: string, guestPorts: readonly number[]): Promise<Forward[]> {
  const missing = [...new Set(guestPorts)].filter((port) => !forwards.some(({ guestPort }) => guestPort === port))
  return [...forwards, ...(await pickForwards(address, missing))]
}
