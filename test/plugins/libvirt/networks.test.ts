import { expect, test } from 'vitest'
import type { LibvirtClient } from '../../../plugins/libvirt/client.ts'
import { subnetOf } from '../../../plugins/libvirt/network-address.ts'
import { describeNetwork, leasedAddresses, networkIdOf } from '../../../plugins/libvirt/networks.ts'
import { readXml } from '../../../plugins/libvirt/xml.ts'

test.each([
  ['192.168.122.1', { netmask: '255.255.255.0' }, '192.168.122.0/24'],
  ['10.1.2.200', { prefix: '26' }, '10.1.2.192/26'],
  ['10.1.2.3', { netmask: '255.255.255.240' }, '10.1.2.0/28'],
  ['2001:db8:ca2:2::1', { prefix: '64' }, '2001:db8:ca2:2::/64'],
  ['fd00:1:2:3:4::1', { prefix: '70' }, 'fd00:1:2:3::/70'],
])('%s with %o lies in %s', (address, given, cidr) => {
  expect(subnetOf(address, given)).toBe(cidr)
})

test('a network without a forward element is isolated, one without a mode is NAT', () => {
  expect(describeNetwork(readXml('<network><name>a</name></network>')).forwardMode).toBe('none')
  expect(describeNetwork(readXml('<network><name>a</name><forward/></network>')).forwardMode).toBe('nat')
})

test('of several leases of one MAC the newest of each family counts, and a reservation before all', async () => {
  const leases = ` 2026-11-22 15:06:26   52:54:00:11:22:33   ipv4       192.168.151.29/24   landing   01:52
 2026-11-22 15:09:01   52:54:00:11:22:33   ipv4       192.168.151.77/24   -         ff:00
 2026-11-22 15:30:00   52:54:00:99:99:99   ipv4       192.168.151.99/24   other     -`
  const client = { look: async () => leases } as unknown as LibvirtClient
  const network = describeNetwork(
    readXml(
      "<network><name>n</name><ip address='192.168.151.1'><dhcp><host mac='52:54:00:AA:BB:CC' ip='192.168.151.5'/></dhcp></ip></network>",
    ),
  )
  expect(await leasedAddresses(client, network, '52:54:00:11:22:33')).toEqual(['192.168.151.77'])
  expect(await leasedAddresses(client, network, '52:54:00:aa:bb:cc')).toEqual(['192.168.151.5'])
})

test.each([
  [`<interface type='network'><source network='default' portid='x'/></interface>`, 'default'],
  [`<interface type='bridge'><source bridge='br0'/></interface>`, 'bridge:br0'],
  [`<interface type='direct'><source dev='eth0' mode='bridge'/></interface>`, 'direct:eth0'],
  [`<interface type='user'/>`, 'user:'],
])('%s is on %s', (xml, id) => {
  expect(networkIdOf(readXml(xml))).toBe(id)
})
