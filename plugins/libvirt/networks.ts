/** libvirt's networks, and the host's own bridges where domains use them directly: those have the id `bridge:<name>`. */
import { isIP, isIPv4 } from 'node:net'
import type { LibvirtClient } from './client.ts'
import { subnetOf } from './network-address.ts'
import { isNotFound } from './virsh-failure.ts'
import { childAt, childrenNamed, element, textOf, type XmlElement } from './xml.ts'

export interface LibvirtNetwork {
  name: string
  forwardMode: string
  /** libvirt's own addresses on it, with their subnets. */
  addresses: { address: string; cidr: string }[]
  /** Fixed DHCP addresses by MAC. */
  reservations: { mac: string; address: string }[]
}

/** undefined where libvirt has no network of that name. */
export async function readNetwork(client: LibvirtClient, name: string, signal?: AbortSignal): Promise<LibvirtNetwork | undefined> {
  try {
    return describeNetwork(await client.read(['net-dumpxml', '--network', name], { what: `look at the network ${name}`, signal }))
  } catch (error) {
    if (isNotFound(error, 'network')) return undefined
    throw error
  }
}

export function describeNetwork(tree: XmlElement): LibvirtNetwork {
  const ips = childrenNamed(tree, 'ip').filter(({ attributes }) => isSubnet(attributes))
  return {
    name: textOf(childAt(tree, 'name')),
    // No element at all is how libvirt writes "isolated"; without a mode it means NAT.
    forwardMode: childAt(tree, 'forward') ? (childAt(tree, 'forward')?.attributes['mode'] ?? 'nat') : 'none',
    addresses: ips.map(({ attributes }) => ({
      address: attributes['address']!,
      cidr: subnetOf(attributes['address']!, { prefix: attributes['prefix'], netmask: attributes['netmask'] }),
    })),
    reservations: ips.flatMap((ip) =>
      childrenNamed(childAt(ip, 'dhcp'), 'host').flatMap(({ attributes: { mac, ip: address } }) =>
        mac !== undefined && address !== undefined && isIP(address) !== 0 ? [{ mac: mac.toLowerCase(), address }] : [],
      ),
    ),
  }
}

/** Whether it is an address with what `subnetOf` takes. */
function isSubnet({ address = '', prefix, netmask = '0.0.0.0' }: Record<string, string>): boolean {
  const bits = isIP(address) === 4 ? 32 : 128
  return (
    isIP(address) !== 0 &&
    !address.includes('%') &&
    (prefix === undefined ? isIPv4(netmask) : /^\d{1,3}$/.test(prefix) && Number(prefix) <= bits)
  )
}

/** Names of all networks, stopped ones too. */
export async function listNetworks(client: LibvirtClient, signal?: AbortSignal): Promise<LibvirtNetwork[]> {
  const uuids = await client.look(['net-list', '--all', '--uuid'], { what: 'list the networks', signal })
  const networks = await Promise.all(
    uuids
      .split('\n')
      .map((uuid) => uuid.trim())
      .filter(Boolean)
      .map((uuid) => readNetwork(client, uuid, signal)),
  )
  return networks.filter((network) => network !== undefined)
}

/** The network's gateway as far as libvirt knows it. */
export function gatewayOf(network: LibvirtNetwork): string | null {
  return network.addresses[0]?.address ?? null
}

/** Addresses that the network's DHCP server gave to a MAC, or reserves for it: the one in use first. */
export async function leasedAddresses(
  client: LibvirtClient,
  network: LibvirtNetwork,
  mac: string,
  signal?: AbortSignal,
): Promise<string[]> {
  const reserved = network.reservations.filter((reservation) => reservation.mac === mac).map(({ address }) => address)
  if (reserved.length > 0) return reserved
  const table = await client.look(['net-dhcp-leases', '--network', network.name, '--mac', mac], {
    what: `read the leases of the network ${network.name}`,
    signal,
  })
  const leases = table.split('\n').flatMap((line) => {
    const match = /^\s*(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\s+(\S+)\s+(ipv4|ipv6)\s+([^\s/]+)\//.exec(line)
    return match?.[2]?.toLowerCase() === mac && isIP(match[4]!) !== 0 ? [{ expiry: match[1]!, family: match[3]!, address: match[4]! }] : []
  })
  // One MAC has several leases when the systems on it (landing image, then the copied disk) give different client ids: the newest is the living one.
  const newest = (family: string) =>
    leases.filter((lease) => lease.family === family).toSorted((a, b) => b.expiry.localeCompare(a.expiry))[0]?.address
  return ['ipv4', 'ipv6'].flatMap((family) => newest(family) ?? [])
}

/** An interface's network id, from its XML. */
export function networkIdOf(nic: XmlElement): string {
  const source = childAt(nic, 'source')?.attributes ?? {}
  const type = nic.attributes['type'] ?? 'unknown'
  if (type === 'network') return source['network'] ?? 'unknown'
  return `${type}:${source['bridge'] ?? source['dev'] ?? source['network'] ?? source['name'] ?? ''}`
}

/** What puts an interface on a network: its type and `<source>`. */
export function nicSource(networkId: string): { type: string; source: XmlElement } {
  return networkId.startsWith('bridge:')
    ? { type: 'bridge', source: element('source', { bridge: networkId.slice('bridge:'.length) }) }
    : { type: 'network', source: element('source', { network: networkId }) }
}
