/**
 * Booting what has been copied so far, while the landing image goes on receiving. From the call on, the landing image's writes go to overlays of their own, so the
 * copied disks stand still below; the test's VM runs on other overlays above the same disks, isolated, and never opens the disks themselves for writing.
 *
 *   disk-N.raw <-- overlay-N.qcow2 of the destination: what is received meanwhile, merged into the disk at the end
 *              <-- overlay-N.qcow2 of the test's VM: dropped at the end
 *
 * `test` in the destination's vm.json is written first and taken back last, so whoever comes after a kill knows whose overlays there are.
 */
import { join } from 'node:path'
import { type ProviderConnection, ProviderError, testIdentity } from '../../src/plugin-sdk/index.ts'
import { requireRoom } from './capacity.ts'
import { requireUnarmed } from './fencing.ts'
import { mergeOverlays } from './flatten-overlay.ts'
import { pickForwards } from './forward-ports.ts'
import { launch } from './launch.ts'
import { copiedFile, type Machine, overlayFile, sshPort } from './machine.ts'
import type { MachineChange } from './machine-store.ts'
import { endProcess } from './qemu-process.ts'
import { runTool } from './run-tool.ts'
import { sealLive } from './seal.ts'
import type { Site } from './site.ts'
import { wrongPhase } from './wrong-phase.ts'

type TestBoot = NonNullable<ProviderConnection['destination']['testBoot']>

export function testBoot(site: Site): TestBoot {
  return {
    async start(operation) {
      const { vmId, testId, signal } = operation
      await site.store.change('test-booted', operation, async (change) => {
        const { machine } = change
        requireUnarmed(machine)
        if (machine.boot !== 'LANDING') throw wrongPhase(change, 'its landing image does not run any more')
        if (machine.test && machine.test.testId !== testId)
          throw wrongPhase(change, `the test ${JSON.stringify(machine.test.testId)} runs on its copied disks`)
        if (!machine.test && machine.disks.some(({ sealed }) => sealed)) throw wrongPhase(change, 'its copied disks are sealed')
        await change.save({ test: { testId } })
        await sealLive(site, change, signal)
        await makeTestMachine(site, await testMachine(site, machine, operation), testId, signal)
      })
      return { vmId: testIdentity(vmId, testId).uniqueId }
    },

    async remove(operation) {
      const { vmId, testId, signal } = operation
      if (!site.store.isVmId(vmId)) return
      await removeTestMachine(site, vmId, testId, signal)
      await site.store
        .change('test-removed', operation, async (change) => {
          if (change.machine.test?.testId === testId) await endTest(site, change, signal)
        })
        .catch((error: unknown) => {
          if (!(error instanceof ProviderError && error.code === 'NOT_FOUND')) throw error
        })
    },
  }
}

/** Removes the test's VM, and brings what was received meanwhile into the copied disks. Does nothing where no test runs. */
export async function endTest(site: Site, change: MachineChange, signal: AbortSignal | undefined): Promise<void> {
  const { vmId, test } = change.machine
  if (!test) return
  await removeTestMachine(site, vmId, test.testId, signal)
  // A killed start may have turned QEMU to the overlays without noting it.
  await sealLive(site, change, signal)
  await mergeOverlays(site, change, 'COPIED', signal)
  await change.save({ test: null })
}

/** Also what an interrupted start left of it. */
export async function removeTestMachine(site: Site, vmId: string, testId: string, signal: AbortSignal | undefined): Promise<void> {
  const testVmId = testIdentity(vmId, testId).uniqueId
  await site.store.lock(testVmId, signal, async () => {
    await endProcess(site.store.directoryOf(testVmId), signal)
    await site.store.remove(testVmId)
  })
}

async function testMachine(site: Site, of: Machine, { testId, inboundPorts }: Parameters<TestBoot['start']>[0]): Promise<Machine> {
  const { uniqueId: vmId, mac } = testIdentity(of.vmId, testId)
  const guestPorts = [...new Set([sshPort, ...inboundPorts])]
  return {
    ...of,
    vmId,
    testOf: of.vmId,
    name: `${of.name} (test)`,
    disks: of.disks.map((disk) => ({ ...disk, sealed: true })),
    nics: of.nics.map(({ index }) => ({ index, mac: mac(index) })),
    forwards: of.nics.length > 0 ? await pickForwards(site.host.forwardAddress, guestPorts) : [],
    boot: 'DISK',
    isolated: true,
    landing: null,
    flattening: null,
    test: null,
    fence: null,
    createdBy: testId,
    landedBy: null,
    operations: {},
  }
}

async function makeTestMachine(site: Site, machine: Machine, testId: string, signal: AbortSignal | undefined): Promise<void> {
  await site.store.create('test-booted', { operationId: testId, ...(signal && { signal }) }, machine, {
    // Its disks are there already, and what it writes is little and short-lived.
    admit: () => requireRoom(site, { ...machine, disks: [] }, 0),
    async prepare(directory) {
      for (const { index } of machine.disks) {
        const { name, format } = copiedFile(machine, index)
        const base = join('..', machine.testOf ?? '', name)
        const create = ['create', '-q', '-f', 'qcow2', '-F', format, '-b', base, overlayFile(index)]
        await runTool(site.options.qemuImgBinary, create, { cwd: directory, signal, timeoutMs: 60_000 })
      }
    },
    async act(change) {
      await launch(site, change, signal)
    },
  })
}
