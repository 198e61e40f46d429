/**
 * A network for one VM under health check: a bridge of its own, without forwarding and without DNS, whose DHCP serves that VM only, at an address known beforehand.
 * It is transient: gone when removed, and after a restart of the host.
 *
 * libvirt's rules keep such a network from every other one, yet not from the host itself: without a filter, the guest reaches every service that listens
 * on any of the host's addresses (measured). Hence the filter: it lets connections to the guest in, and none out.
 */
import { createHash } from 'node:crypto'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { bridgesNamed, removeLeftBridges } from './left-bridges.ts'
import { ipv4ToNumber, numberToIpv4 } from './network-address.ts'
import { readNetwork } from './networks.ts'
import type { Site } from './site.ts'
import { isNotFound } from './virsh-failure.ts'
import { element, type XmlElement } from './xml.ts'

const subnetSize = 16
const tries = 20

/** One for all VMs. It stays defined: without a VM that refers to it, it does nothing. */
export const isolationFilterName = 'portolan-isolated'

export function isolatedNetworkName(vmId: string): string {
  return `portolan-isolated-${vmId}`
}

export function isIsolatedNetwork(name: string): boolean {
  return name.startsWith('portolan-isolated-')
}

/** Makes it where it isn't there. */
export async function ensureIsolatedNetwork(site: Site, vmId: string, macs: readonly string[], signal?: AbortSignal): Promise<void> {
  await site.client.define(['nwfilter-define'], filterXml(), { what: 'define the filter of isolated networks', signal })
  const there = await bridgesNamed(bridgePrefix(site, vmId))
  if (await readNetwork(site.client, isolatedNetworkName(vmId), signal)) return
  await removeLeftBridges(there, site.log)
  const digest = createHash('sha256').update(vmId).digest()
  for (let attempt = 0; ; attempt++) {
    const subnet = nthSubnet(site.options.isolatedNetworks, digest.readUInt32BE(0) + attempt)
    try {
      await site.client.define(['net-create'], networkXml(vmId, bridgePrefix(site, vmId), subnet, macs), {
        what: 'create an isolated network',
        signal,
      })
      return
    } catch (error) {
      // Another network or route has this subnet.
      const collides = error instanceof ProviderError && /already in use/.test(error.message)
      if (!collides || attempt === tries) throw error
    }
  }
}

export async function removeIsolatedNetwork(site: Site, vmId: string, signal?: AbortSignal): Promise<void> {
  const there = await bridgesNamed(bridgePrefix(site, vmId))
  try {
    await site.client.call(['net-destroy', '--network', isolatedNetworkName(vmId)], { what: 'remove the isolated network', signal })
  } catch (error) {
    if (!isNotFound(error, 'network')) throw error
    await removeLeftBridges(there, site.log)
  }
}

/** Of this libvirt alone, also where another one on the same machine has the same VM. The kernel allows 15 characters; libvirt adds the first number that no interface here has yet. */
function bridgePrefix(site: Site, vmId: string): string {
  return `ptln${createHash('sha256').update(`${site.options.uri} ${vmId}`).digest('hex').slice(0, 9)}`
}

/** First address of the nth subnet of the range, counted round and round. */
function nthSubnet(range: string, n: number): number {
  const [address = '', prefix = ''] = range.split('/')
  const size = 2 ** (32 - Number(prefix))
  const start = Math.floor(ipv4ToNumber(address) / size) * size
  return start + (n % (size / subnetSize)) * subnetSize
}

function networkXml(vmId: string, bridges: string, subnet: number, macs: readonly string[]): XmlElement {
  return element(
    'network',
    {},
    element('name', {}, isolatedNetworkName(vmId)),
    element('bridge', { name: `${bridges}%d`, stp: 'off', delay: 0 }),
    element('dns', { enable: 'no' }),
    element(
      'ip',
      { address: numberToIpv4(subnet + 1), netmask: '255.255.255.240' },
      element('dhcp', {}, ...macs.map((mac, index) => element('host', { mac, ip: numberToIpv4(subnet + 2 + index) }))),
    ),
  )
}

/** A fixed UUID makes a repeated definition a replacement. Rules count from the guest's side: `in` is towards it. Lower priorities come first. */
function filterXml(): XmlElement {
  const rule = (action: 'accept' | 'drop', direction: 'in' | 'out' | 'inout', priority: number, what: XmlElement) =>
    element('rule', { action, direction, priority }, what)
  return element(
    'filter',
    { name: isolationFilterName, chain: 'root' },
    element('uuid', {}, '6f0a5d5c-8c1e-4a52-9d1b-70727463706c'),
    rule('accept', 'inout', 100, element('mac', { protocolid: 'arp' })),
    rule('accept', 'out', 200, element('udp', { srcportstart: 68, dstportstart: 67 })),
    rule('accept', 'in', 200, element('udp', { srcportstart: 67, dstportstart: 68 })),
    rule('accept', 'in', 300, element('tcp', { state: 'NEW,ESTABLISHED' })),
    rule('accept', 'out', 300, element('tcp', { state: 'ESTABLISHED' })),
    rule('drop', 'inout', 1000, element('all')),
  )
}
