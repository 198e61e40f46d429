import { accessFor, type ProviderConnection, ProviderError, sshInstaller } from '../../src/plugin-sdk/index.ts'
import { sshPort } from './machine.ts'
import type { Site } from './site.ts'

/** By SSH, through the forwarded port, with the login that the cloud's options give. */
export function migrationAgent(
  site: Site,
  reachability: ProviderConnection['network']['reachability'],
): ProviderConnection['migrationAgent'] {
  return sshInstaller({
    async access(vmId) {
      const machine = await site.store.read(vmId)
      const { user, privateKey, hostKeys } = accessFor(site.options.guestAccess, { uniqueId: vmId, name: machine.name })
      const { fromControlPlane } = await reachability({ vmId, guestPort: sshPort })
      if (fromControlPlane) return { endpoint: fromControlPlane, user, privateKey, hostKeys }
      throw new ProviderError('UNREACHABLE', `The guest of ${vmId} can't be logged in to: it is powered off, or has no NIC.`, {
        retryable: true,
        remedy: 'Start the virtual machine and call again.',
        path: ['vmId'],
      })
    },
  })
}
