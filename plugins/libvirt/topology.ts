import { ProviderError, type ProviderConnection, type Topology } from '../../src/plugin-sdk/index.ts'
import { withinLimits } from './capacity.ts'
import { describeMachine } from './describe-machine.ts'
import { describeHost } from './host.ts'
import { isIsolatedNetwork } from './isolated-network.ts'
import { controlPlaneFrom } from './network.ts'
import { listNetworks } from './networks.ts'
import type { Site } from './site.ts'
import { describeStorages } from './storages.ts'

/** One region, one zone, one host: a libvirt is one machine. All its domains, made by us or not. */
export function discoverTopology(site: Site): ProviderConnection['discoverTopology'] {
  return async ({ signal }) => {
    const host = { ...(await withinLimits(site, await describeHost(site, signal), signal)), ...(await describeStorages(site, signal)) }
    const list = await site.client.call(['list', '--all', '--uuid'], { what: 'list the virtual machines', signal })
    const virtualMachines: Topology['virtualMachines'] = []
    for (const vmId of list
      .split('\n')
      .map((line) => line.trim())
      .filter(Boolean)) {
      try {
        virtualMachines.push(await describeMachine(site, vmId, host.id, signal))
      } catch (error) {
        // Deleted since it was listed.
        if (!(error instanceof ProviderError && error.code === 'NOT_FOUND')) throw error
      }
    }
    const { region, zone } = site.options
    return {
      regions: [{ id: region, name: region, zones: [{ id: zone, name: zone, hosts: [host] }] }],
      networks: await networksOf(site, virtualMachines, signal),
      virtualMachines,
    }
  }
}

/** libvirt's networks but for isolated ones of our own, and whatever else NICs are connected to, such as bridges of the host. */
async function networksOf(site: Site, machines: Topology['virtualMachines'], signal?: AbortSignal): Promise<Topology['networks']> {
  const networks = (await listNetworks(site.client, signal)).filter(({ name }) => !isIsolatedNetwork(name))
  const others = new Set(machines.flatMap(({ nics }) => nics.map(({ networkId }) => networkId)))
  for (const { name } of networks) others.delete(name)
  return [
    ...networks.map((network) => ({
      id: network.name,
      name: network.name,
      subnets: network.addresses.map(({ cidr }) => ({ id: `${network.name} ${cidr}`, name: cidr, cidr })),
      controlPlaneFromGuest: controlPlaneFrom(site, network),
    })),
    ...[...others].map((id) => ({ id, name: id, subnets: [], controlPlaneFromGuest: site.options.controlPlaneAddress ?? null })),
  ]
}
