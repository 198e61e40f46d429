/**
 * A network for one VM under health check: a bridge of its own, without forwarding and without DNS, whose DHCP serves that VM only.
 * libvirt's rules keep it from every other network; this machine reaches the guest at an address known beforehand. It is transient: it is gone when removed,
 * and after a restart of the host.
 */
import { createHash } from 'node:crypto'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { ipv4ToNumber, numberToIpv4 } from './network-address.ts'
import { readNetwork } from './networks.ts'
import type { Site } from './site.ts'
import { isNotFound } from './virsh-failure.ts'
import { element, type XmlElement } from './xml.ts'

const subnetSize = 16
const tries = 20

export function isolatedNetworkName(vmId: string): string {
  return `portolan-isolated-${vmId}`
}

export function isIsolatedNetwork(name: string): boolean {
  return name.startsWith('portolan-isolated-')
}

/** Makes it where it isn't there. */
export async function ensureIsolatedNetwork(site: Site, vmId: string, macs: readonly string[], signal?: AbortSignal): Promise<void> {
  if (await readNetwork(site.client, isolatedNetworkName(vmId), signal)) return
  const digest = createHash('sha256').update(vmId).digest()
  for (let attempt = 0; ; attempt++) {
    const subnet = nthSubnet(site.options.isolatedNetworks, digest.readUInt32BE(0) + attempt)
    try {
      await site.client.define(['net-create'], networkXml(vmId, digest.toString('hex'), subnet, macs), {
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
  try {
    await site.client.call(['net-destroy', '--network', isolatedNetworkName(vmId)], { what: 'remove the isolated network', signal })
  } catch (error) {
    if (!isNotFound(error, 'network')) throw error
  }
}

/** First address of the nth subnet of the range, counted round and round. */
function nthSubnet(range: string, n: number): number {
  const [address = '', prefix = ''] = range.split('/')
  const size = 2 ** (32 - Number(prefix))
  const start = Math.floor(ipv4ToNumber(address) / size) * size
  return start + (n % (size / subnetSize)) * subnetSize
}

function networkXml(vmId: string, digest: string, subnet: number, macs: readonly string[]): XmlElement {
  return element(
    'network',
    {},
    element('name', {}, isolatedNetworkName(vmId)),
    // The kernel allows 15 characters.
    element('bridge', { name: `ptln${digest.slice(0, 10)}`, stp: 'off', delay: 0 }),
    element('dns', { enable: 'no' }),
    element(
      'ip',
      { address: numberToIpv4(subnet + 1), netmask: '255.255.255.240' },
      element('dhcp', {}, ...macs.map((mac, index) => element('host', { mac, ip: numberToIpv4(subnet + 2 + index) }))),
    ),
  )
}
