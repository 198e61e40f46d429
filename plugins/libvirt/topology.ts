import { ProviderError, type ProviderConnection, type Topology } from '../../src/plugin-sdk/index.ts'
import { withinLimits } from './capacity.ts'
import { describeMachine } from './describe-machine.ts'
import { describeHost } from './host.ts'
import { isIsolatedNetwork } from './isolated-network.ts'
import { controlPlaneFrom } from './network.ts'
import { listNetworks, type LibvirtNetwork } from './networks.ts'
import type { Site } from './site.ts'
import { describeStorages } from './storages.ts'

/** One region, one zone, one host: a libvirt is one machine. All its domains, made by us or not. */
export function discoverTopology(site: Site): ProviderConnection['discoverTopology'] {
  return async ({ signal }) => {
    const [described, storages, list, networks] = await Promise.all([
      describeHost(site, signal),
      describeStorages(site, signal),
      site.client.look(['list', '--all', '--uuid'], { what: 'list the virtual machines', signal }),
      listNetworks(site.client, signal),
    ])
    const host = { ...(await withinLimits(site, described, signal)), ...storages }
    const vmIds = list.split('\n').flatMap((line) => line.trim() || [])
    const found = await Promise.all(vmIds.map((vmId) => describeMachine(site, vmId, host.id, signal).catch(undefinedWhereDeleted)))
    const virtualMachines = found.filter((vm) => vm !== undefined)
    const { region, zone } = site.options
    return {
      regions: [{ id: region, name: region, zones: [{ id: zone, name: zone, hosts: [host] }] }],
      networks: networksOf(site, networks, virtualMachines),
      virtualMachines,
    }
  }
}

/** Since it was listed. */
function undefinedWhereDeleted(error: unknown): undefined {
  if (!(error instanceof ProviderError && error.code === 'NOT_FOUND')) throw error
}

/** libvirt's networks but for isolated ones of our own, and whatever else NICs are connected to, such as bridges of the host. */
function networksOf(site: Site, all: readonly LibvirtNetwork[], machines: Topology['virtualMachines']): Topology['networks'] {
  const networks = all.filter(({ name }) => !isIsolatedNetwork(name))
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
