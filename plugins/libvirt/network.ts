/** `network`: isolation, and who reaches whom. */
import { type ProviderConnection, requireCompletedEvent } from '../../src/plugin-sdk/index.ts'
import { macOf, nicElements } from './describe-machine.ts'
import { isIsolatedNetwork } from './isolated-network.ts'
import { exposeMachine, isolateMachine } from './isolation.ts'
import { readMetadata } from './machine-metadata.ts'
import { gatewayOf, leasedAddresses, networkIdOf, readNetwork, type LibvirtNetwork } from './networks.ts'
import { isLocal } from './options.ts'
import { wrongState } from './power.ts'
import { records } from './records.ts'
import type { Site } from './site.ts'

export function network(site: Site): ProviderConnection['network'] {
  return {
    ...(!isLocal(site.options.uri) && { isolationFault: "is on a network of libvirt's host alone" }),

    isolate: (operation) => site.once(operation, () => isolateMachine(site, operation.vmId, operation.signal)),

    expose: (operation) =>
      site.once(operation, async () => {
        if (readMetadata(await site.domain(operation.vmId, operation.signal)).stage === 'test')
          throw wrongState(
            operation.vmId,
            'a test of a copy, and stays isolated',
            'Remove the test; the copy itself goes live by its migration.',
          )
        await requireCompletedEvent(records(site), operation)
        await exposeMachine(site, operation.vmId, operation.signal)
      }),

    /** Looks at the VM as it runs, NIC by NIC: the first whose address is known. */
    async reachability({ vmId, guestPort, signal }) {
      let controlPlaneFromGuest: string | null = null
      for (const nic of nicElements(await site.runningDomain(vmId, signal))) {
        if (nic.attributes['type'] !== 'network') continue
        const connected = await readNetwork(site.client, networkIdOf(nic), signal)
        if (!connected) continue
        controlPlaneFromGuest ??= controlPlaneFrom(site, connected)
        const [address] = isReachable(site, connected) ? await leasedAddresses(site.client, connected, macOf(nic), signal) : []
        if (address !== undefined) return { fromControlPlane: { host: address, port: guestPort }, controlPlaneFromGuest }
      }
      return { fromControlPlane: null, controlPlaneFromGuest }
    },
  }
}

/** The address that a guest on the network dials; null from an isolated one. */
export function controlPlaneFrom(site: Site, of: LibvirtNetwork): string | null {
  if (isIsolatedNetwork(of.name)) return null
  return site.options.controlPlaneAddress ?? (isLocal(site.options.uri) ? gatewayOf(of) : null)
}

/** libvirt's own bridges are this machine's when libvirtd is; behind another host only networks that are routed can be reached. */
function isReachable(site: Site, of: LibvirtNetwork): boolean {
  return isLocal(site.options.uri) || ['route', 'open', 'bridge'].includes(of.forwardMode)
}
