/** `virtualMachines`: describing, starting, stopping and suspending any domain; making one from an image, for demos and tests. */
import { stat } from 'node:fs/promises'
import { ProviderError, testIdentity, type Operation, type ProviderConnection } from '../../src/plugin-sdk/index.ts'
import { readConsole } from './console.ts'
import { createMachine } from './create-machine.ts'
import { deleteMachine } from './delete-machine.ts'
import { describeMachine, macOf, powerOf } from './describe-machine.ts'
import { factsOf } from './fencing.ts'
import { hostName } from './host.ts'
import { ensureIsolatedNetwork } from './isolated-network.ts'
import { readMetadata } from './machine-metadata.ts'
import { nameRule } from './name-rule.ts'
import { destroyMachine, resumeMachine, shutDownMachine, startMachine, suspendMachine, wrongState } from './power.ts'
import type { Site } from './site.ts'
import { poolFor } from './storages.ts'
import { volumeNames } from './volume-names.ts'

export function virtualMachines(site: Site): ProviderConnection['virtualMachines'] {
  async function start({ vmId, signal }: Operation & { vmId: string }): Promise<void> {
    const { stage, ownNics } = readMetadata(await site.domain(vmId, signal))
    if (stage === 'creating') throw wrongState(vmId, 'not complete', 'Send the operation that creates it again.')
    // The isolated network doesn't outlive a restart of the host.
    if (ownNics.length > 0) await ensureIsolatedNetwork(site, vmId, ownNics.map(macOf), signal)
    await startMachine(site, vmId, signal)
  }

  return {
    nameRule,

    async describe({ vmId, signal }) {
      return describeMachine(site, vmId, await hostName(site.client, signal), signal)
    },

    start: (operation) => site.once(operation, () => start(operation)),

    stop: (operation) =>
      site.once(operation, async () => {
        const { vmId, signal } = operation
        if (!operation.force) return shutDownMachine(site, vmId, signal)
        const { test } = readMetadata(await site.domain(vmId, signal))
        // First, since a caller that finds this VM off does not stop it again.
        if (test !== undefined) await deleteMachine(site, { ...operation, vmId: testIdentity(vmId, test).uniqueId })
        await destroyMachine(site, vmId, signal)
      }),

    suspend: (operation) => site.once(operation, () => suspendMachine(site, operation.vmId, operation.signal)),

    resume: (operation) =>
      site.once(operation, async () => {
        const { vmId, signal } = operation
        // Its memory waits in a file, from which libvirt starts it as it was: running, or suspended.
        if ((await powerOf(site, vmId, signal)) === 'STOPPED' && (await factsOf(site, vmId, signal)).managedSave) await start(operation)
        await resumeMachine(site, vmId, signal)
      }),

    async create({ virtualMachine, imagePath, ...operation }) {
      const [boot] = virtualMachine.disks
      const imageBytes = await imageSize(imagePath)
      if (boot && imageBytes > boot.sizeBytes) throw imageTooLarge(imageBytes, boot.sizeBytes)
      const machine = { ...virtualMachine, uniqueId: virtualMachine.uniqueId.toLowerCase() }
      return createMachine(site, operation, {
        virtualMachine,
        stage: 'ordinary',
        fill: async () => {
          if (boot)
            await poolFor(site, boot).upload(volumeNames(machine).disk(0), imagePath, {
              sizeBytes: boot.sizeBytes,
              signal: operation.signal,
            })
          return {}
        },
        start: false,
      })
    },

    console: readConsole(site),

    delete: (operation) => deleteMachine(site, operation),
  }
}

async function imageSize(imagePath: string): Promise<number> {
  try {
    return (await stat(imagePath)).size
  } catch (error) {
    throw new ProviderError('NOT_FOUND', `The disk image ${imagePath} can't be read; nothing was created.`, {
      retryable: false,
      remedy: 'Name a raw disk image on this machine.',
      path: ['imagePath'],
      cause: error,
    })
  }
}

function imageTooLarge(imageBytes: number, diskBytes: number): ProviderError {
  return new ProviderError(
    'INSUFFICIENT_CAPACITY',
    `The image of ${imageBytes} bytes does not fit the disk of ${diskBytes} bytes; nothing was created.`,
    {
      retryable: false,
      remedy: 'Give the first disk at least the size of the image.',
      path: ['virtualMachine', 'disks', '0', 'sizeBytes'],
    },
  )
}
