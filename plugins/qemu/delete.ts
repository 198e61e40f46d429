import type { ProviderConnection } from '../../src/plugin-sdk/index.ts'
import { endProcess } from './qemu-process.ts'
import type { Site } from './site.ts'

/** Pulls the plug and removes all of the VM. What isn't there, or only left over from an interrupted call, is removed without an error. */
export function deleteMachine(site: Site): ProviderConnection['destination']['delete'] {
  return async ({ vmId, signal }) => {
    if (!site.store.isVmId(vmId)) return
    await site.store.lock(vmId, signal, async () => {
      await endProcess(site.store.directoryOf(vmId), signal)
      await site.store.remove(vmId)
    })
  }
}
