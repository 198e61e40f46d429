/** `destination`: a VM from the landing image to the copied disk. What each step leaves when it is killed, the same step completes. */
import type { ProviderConnection } from '../../src/plugin-sdk/index.ts'
import { adopt, endAdoption, setDiskBoot } from './adopt.ts'
import { createMachine } from './create-machine.ts'
import { deleteMachine } from './delete-machine.ts'
import { setBoot, setDiskFiles, setMetadata } from './domain-xml.ts'
import { requireUnarmed } from './fenced-definition.ts'
import { exposeConfiguration, isExposed, isolateConfiguration } from './isolation.ts'
import { removeIsolatedNetwork } from './isolated-network.ts'
import { deleteLanding, requireMemory, uploadLanding } from './landing-volumes.ts'
import { readMetadata, type Stage } from './machine-metadata.ts'
import { copiedDisks, deleteOverlays, deleteReceived, flatten, machineOf, seal } from './overlays.ts'
import { defineDomain, destroyMachine, startMachine, wrongState } from './power.ts'
import type { Site } from './site.ts'
import { endTest, testBoot } from './test-boot.ts'
import type { XmlElement } from './xml.ts'

export function destination(site: Site): ProviderConnection['destination'] {
  /** The domain, when it is in one of the stages from which a step may start. */
  const domainIn = async (stages: Stage[], vmId: string, signal?: AbortSignal): Promise<XmlElement> => {
    const domain = await site.domain(vmId, signal)
    const { stage } = readMetadata(domain)
    requireUnarmed(vmId, domain)
    if (stages.includes(stage)) return domain
    throw wrongState(
      vmId,
      `in the stage "${stage}", and this step wants ${stages.join(' or ')}`,
      'Follow the order instantiate, seal, boot, flatten.',
    )
  }

  return {
    async instantiate({ virtualMachine, landing, inject, ...operation }) {
      requireMemory(virtualMachine.memoryBytes, landing)
      const machine = { ...virtualMachine, uniqueId: virtualMachine.uniqueId.toLowerCase() }
      const files = { kernelPath: landing.kernelPath, initrdPath: landing.initrdPath, commandLine: landing.commandLine }
      return createMachine(site, operation, {
        virtualMachine,
        stage: 'landing',
        landing: files,
        fill: async () => ({ landing: await uploadLanding(site, machine, files, inject, operation.signal) }),
        start: true,
      })
    },

    sealCopiedDisks: (operation) =>
      site.once(operation, async () => {
        const { vmId, signal } = operation
        requireUntested(vmId, await domainIn(['landing', 'sealed'], vmId, signal))
        await seal(site, vmId, signal)
        await site.note(vmId, { stage: 'sealed' }, signal)
      }),

    bootFromCopiedDisk: (operation) =>
      site.once(operation, async () => {
        const { operationId, vmId, signal } = operation
        const domain = await domainIn(['sealed', 'booted'], vmId, signal)
        if (readMetadata(domain).bootedBy !== operationId) {
          await destroyMachine(site, vmId, signal)
          const metadata = await isolateConfiguration(site, vmId, domain, signal)
          setDiskBoot(domain)
          setMetadata(domain, { ...metadata, stage: 'booted', bootedBy: operationId })
          await defineDomain(site, domain, signal)
        }
        await startMachine(site, vmId, signal)
        await deleteLanding(site, machineOf(domain), signal)
      }),

    discardOverlay: ({ inject, ...operation }) =>
      site.once(operation, async () => {
        const { operationId, vmId, signal } = operation
        if (isExposed(await domainIn(['landing', 'sealed', 'booted'], vmId, signal)))
          throw wrongState(vmId, 'exposed, and what it wrote since is the only copy', "See the migration's verdict.")
        // What was received during a test is kept.
        await endTest(site, operation)
        const domain = await site.domain(vmId, signal)
        const metadata = readMetadata(domain)
        if (metadata.bootedBy !== operationId) {
          if (!metadata.landing) throw wrongState(vmId, 'without a landing image to go back to', 'Delete it and instantiate it again.')
          await destroyMachine(site, vmId, signal)
          const landing = await uploadLanding(site, machineOf(domain), metadata.landing, inject, signal)
          setDiskFiles(domain, await copiedDisks(site, domain, signal))
          setBoot(domain, landing)
          exposeConfiguration(domain)
          setMetadata(domain, { ...metadata, stage: 'landing', bootedBy: operationId, ownNics: [] })
          await defineDomain(site, domain, signal)
        }
        await deleteOverlays(site, domain, signal)
        await startMachine(site, vmId, signal)
        await removeIsolatedNetwork(site, vmId, signal)
      }),

    flattenOverlay: (operation) =>
      site.once(operation, async () => {
        const { vmId, signal } = operation
        const domain = await domainIn(['booted', 'ordinary', 'foreign'], vmId, signal)
        await flatten(site, vmId, 'OWN', signal)
        await deleteLanding(site, machineOf(domain), signal)
        if (readMetadata(domain).adopted) await endAdoption(site, vmId, signal)
        else if (readMetadata(domain).stage === 'booted') await site.note(vmId, { stage: 'ordinary', landing: undefined }, signal)
        await deleteReceived(site, domain, signal)
      }),

    delete: (operation) => deleteMachine(site, operation),

    testBoot: testBoot(site),

    adopt: adopt(site),
  }
}

function requireUntested(vmId: string, domain: XmlElement): void {
  if (readMetadata(domain).test !== undefined) throw wrongState(vmId, 'being tested, on its copied disks', 'Remove the test first.')
}
