import type { ProviderConnection } from '../../src/plugin-sdk/index.ts'
import { endProcess } from './qemu-process.ts'
import type { Site } from './site.ts'
import { removeTestMachine } from './test-boot.ts'

/** Pulls the plug and removes all of the VM. What isn't there, or only left over from an interrupted call, is removed without an error. */
export function deleteMachine(site: Site): ProviderConnection['destination']['delete'] {
  return async ({ vmId, signal }) => {
    if (!site.store.isVmId(vmId)) return
    const test = (await site.store.find(vmId))?.test
    if (test) await removeTestMachine(site, vmId, test.testId, signal)
    await site.store.lock(vmId, signal, async () => {
      await endProcess(site.store.directoryOf(vmId), signal)
      await site.store.remove(vmId)
    })
  }
}
