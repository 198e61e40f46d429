/** Portolan's provider plugin for libvirt: one libvirtd with QEMU, reached through virsh. See README.md. */
import {
  accessFor,
  agentToAgentCopy,
  contractVersion,
  definePlugin,
  ProviderError,
  sshInstaller,
  type SshAccess,
} from '../../src/plugin-sdk/index.ts'
import { destination } from './destination.ts'
import { fencing } from './fencing.ts'
import { hostName } from './host.ts'
import { network } from './network.ts'
import { libvirtOptions } from './options.ts'
import { records } from './records.ts'
import { openSite, type Site } from './site.ts'
import { storagePools } from './storages.ts'
import { discoverTopology } from './topology.ts'
import { virtualMachines } from './virtual-machines.ts'

export default definePlugin({
  id: 'libvirt',
  apiVersion: contractVersion,
  options: libvirtOptions,
  async connect(options, { signal, log }) {
    const site = openSite(options, log)
    await requireUsable(site, signal)
    return {
      discoverTopology: discoverTopology(site),
      virtualMachines: virtualMachines(site),
      destination: destination(site),
      network: network(site),
      migrationAgent: sshInstaller({ access: (vmId) => guestAccess(site, vmId) }),
      copyGuestData: agentToAgentCopy,
      fencing: fencing(site),
      records: records(site),
      // Nothing is held open between calls.
      close: async () => undefined,
    }
  },
})

/** Finds out at once what would fail later: who answers, the pool, and acceleration where it is asked for. */
async function requireUsable(site: Site, signal: AbortSignal): Promise<void> {
  const { client, options } = site
  await hostName(client, signal)
  for (const pool of storagePools(site)) await site.pool(pool).availableBytes(signal)
  if (options.acceleration === 'kvm')
    await client.call(['domcapabilities', '--virttype', 'kvm', '--machine', 'q35'], { what: 'find KVM on the host', signal })
}

async function guestAccess(site: Site, vmId: string): Promise<SshAccess> {
  const vm = await virtualMachines(site).describe({ vmId })
  const { user, privateKey, hostKeys } = accessFor(site.options.guestAccess, vm)
  const { fromControlPlane } = await network(site).reachability({ vmId, guestPort: 22 })
  if (fromControlPlane) return { endpoint: fromControlPlane, user, privateKey, hostKeys }
  throw new ProviderError(
    'UNREACHABLE',
    `No address is known of the guest of ${JSON.stringify(vm.name)}, so the agent can't be installed.`,
    {
      retryable: true,
      remedy: "Wait until the guest has its address by DHCP; where libvirt's DHCP doesn't serve it, put it on a network where it does.",
      path: ['vmId'],
    },
  )
}
