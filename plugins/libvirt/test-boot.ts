/**
 * Booting what has been copied so far, while the landing image goes on receiving. From the call on, the landing image's writes go to overlays of their own, so the
 * copied volumes stand still below; the test's domain runs on other overlays above the same volumes, isolated.
 *
 *   <copy>-disk-N.raw <-- <copy>-disk-N.overlay.qcow2: what is received meanwhile, merged into the volume at the end
 *                     <-- <test>-disk-N.overlay.qcow2: what the test writes, dropped at the end
 *
 * The test's id is noted in the copy's domain first and taken back last, so whoever comes after a kill knows whose overlays there are.
 */
import { type NewVirtualMachine, type Operation, type ProviderConnection, testIdentity } from '../../src/plugin-sdk/index.ts'
import { requireCapacity } from './capacity.ts'
import { deleteMachine } from './delete-machine.ts'
import { bytesOf, cpuCountOf, diskElements, nicElements, powerOf } from './describe-machine.ts'
import { domainXml, setDiskFiles, setMetadata } from './domain-xml.ts'
import { requireUnarmed } from './fenced-definition.ts'
import { isolateConfiguration } from './isolation.ts'
import { readMetadata, type MachineMetadata } from './machine-metadata.ts'
import { networkIdOf } from './networks.ts'
import { copiedDisks, flatten, machineOf, seal } from './overlays.ts'
import { defineDomain, startMachine, wrongState } from './power.ts'
import type { Site } from './site.ts'
import { isNotFound } from './virsh-failure.ts'
import { volumeNames } from './volume-names.ts'
import { childAt, textOf, type XmlElement } from './xml.ts'

type TestBoot = NonNullable<ProviderConnection['destination']['testBoot']>

export function testBoot(site: Site): TestBoot {
  return {
    async start({ testId, ...operation }) {
      const { vmId, signal } = operation
      const testVmId = testIdentity(vmId, testId).uniqueId
      await site.once(operation, async () => {
        const domain = await site.domain(vmId, signal)
        const { stage, test } = readMetadata(domain)
        requireUnarmed(vmId, domain)
        if (stage !== 'landing')
          throw wrongState(vmId, `in the stage "${stage}", and a test wants landing`, 'Test a copy before its disks are sealed.')
        if (test !== undefined && test !== testId)
          throw wrongState(vmId, `being tested already (${JSON.stringify(test)})`, 'Remove that test first.')
        await site.note(vmId, { test: testId }, signal)
        if ((await powerOf(site, vmId, signal)) !== 'STOPPED') await seal(site, vmId, signal)
        await site.exclusively(testVmId, signal, () => makeTestMachine(site, domain, testId, signal))
      })
      return { vmId: testVmId }
    },

    async remove({ testId, ...operation }) {
      const { vmId, signal } = operation
      await deleteMachine(site, { ...operation, vmId: testIdentity(vmId, testId).uniqueId })
      try {
        await site.once(operation, async () => {
          if (readMetadata(await site.domain(vmId, signal)).test === testId) await endTest(site, operation)
        })
      } catch (error) {
        if (!isNotFound(error, 'domain')) throw error
      }
    },
  }
}

/** Removes the test's domain, and brings what was received meanwhile into the copied volumes. Does nothing where no test runs. */
export async function endTest(site: Site, operation: Operation & { vmId: string }): Promise<void> {
  const { vmId, signal } = operation
  const { test } = readMetadata(await site.domain(vmId, signal))
  if (test === undefined) return
  await deleteMachine(site, { ...operation, vmId: testIdentity(vmId, test).uniqueId })
  await flatten(site, vmId, 'COPIED', signal)
  await site.note(vmId, { test: undefined }, signal)
}

/** First a definition that says whose it is, then its volumes, then the mark that it is whole: as create-machine.ts does. */
async function makeTestMachine(site: Site, copy: XmlElement, testId: string, signal?: AbortSignal): Promise<void> {
  const identity = testIdentity(machineOf(copy).uniqueId, testId)
  const { uniqueId } = identity
  if (!(await isWhole(site, uniqueId, signal))) {
    const vm = testVirtualMachine(copy, identity)
    const names = volumeNames(vm)
    const directory = await site.volumes.directory(signal)
    const paths = vm.disks.map((_, index) => `${directory}/${names.overlay(index)}`)
    const metadata: MachineMetadata = { stage: 'creating', createdBy: testId, bootedBy: testId, ownNics: [], operations: [] }
    const tree = domainXml(vm, { options: site.options, diskPaths: paths, consolePath: `${directory}/${names.console}`, metadata })
    setDiskFiles(
      tree,
      paths.map((path) => ({ path, format: 'qcow2' })),
    )
    await site.admitting(
      signal,
      // Its disks are there already, and what it writes is little and short-lived.
      () => requireCapacity(site, { ...vm, disks: [] }, signal),
      () => defineDomain(site, tree, signal),
    )
    for (const [index, copied] of (await copiedDisks(site, copy, signal)).entries())
      await site.volumes.createOverlay(names.overlay(index), copied, signal)
    setMetadata(tree, { ...(await isolateConfiguration(site, uniqueId, tree, signal)), stage: 'test' })
    await defineDomain(site, tree, signal)
  }
  await startMachine(site, uniqueId, signal)
}

async function isWhole(site: Site, vmId: string, signal?: AbortSignal): Promise<boolean> {
  try {
    return readMetadata(await site.domain(vmId, signal)).stage === 'test'
  } catch (error) {
    if (isNotFound(error, 'domain')) return false
    throw error
  }
}

/** As the copy, but for what makes it another one: libvirt wants the name to differ too. */
function testVirtualMachine(copy: XmlElement, { uniqueId, mac }: ReturnType<typeof testIdentity>): NewVirtualMachine {
  const suffix = ` (test ${uniqueId.slice(0, 8)})`
  return {
    name: `${textOf(childAt(copy, 'name')).slice(0, 40)}${suffix}`,
    uniqueId,
    cpuCount: cpuCountOf(copy),
    memoryBytes: bytesOf(childAt(copy, 'memory')),
    firmware: 'BIOS',
    disks: diskElements(copy).map((_, index) => ({ index, sizeBytes: 0 })),
    nics: nicElements(copy).map((nic, index) => ({
      index,
      mac: mac(index),
      networkId: networkIdOf(nic),
    })),
  }
}
