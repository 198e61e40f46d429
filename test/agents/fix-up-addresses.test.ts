import { afterEach, describe, expect, test } from 'vitest'
import { addresses } from '../../src/agents/migration/fix-up/addresses.ts'
import { plantTree, type GuestTree } from './fix-up-tree.ts'

const mac = '52:54:00:12:34:56'
const fixed = { mode: 'STATIC', address: '192.0.2.7/24', gateway: '192.0.2.1', dnsServers: ['192.0.2.53', '2001:db8::53'] } as const
const fixed6 = { mode: 'STATIC', address: '2001:db8::7/64', gateway: '2001:db8::1', dnsServers: ['2001:db8::53'] } as const
let tree: GuestTree
afterEach(() => tree.remove())

async function give(files: Record<string, string>, addressing: typeof fixed | typeof fixed6 | { mode: 'DHCP' } | undefined, name = 'eth0') {
  tree = plantTree(files)
  const request = {
    nics: [
      {
        mac,
        name,
        ...(addressing && { addressing: { ...addressing, ...('dnsServers' in addressing && { dnsServers: [...addressing.dnsServers] }) } }),
      },
    ],
  }
  const first = await addresses.apply(tree.guest, request as never)
  // Whatever it is, the second time there is nothing left to do.
  expect((await addresses.apply(tree.guest, request as never)).changed).toEqual([])
  return first.changed
}

const debian =
  '# The loopback network interface\nauto lo\niface lo inet loopback\n\nallow-hotplug eth0\niface eth0 inet static\n    address 10.0.0.5/24\n    gateway 10.0.0.1\n\nauto eth1\niface eth1 inet dhcp\n'

test('an interface that nothing was asked for keeps its static address', async () => {
  expect(await give({ 'etc/network/interfaces': debian }, undefined)).toEqual([])
  expect(tree.read('etc/network/interfaces')).toBe(debian)
})

describe('ifupdown', () => {
  test('gets the address, and the other interfaces stay as they are', async () => {
    expect(
      await give({ 'etc/network/interfaces': debian, 'etc/resolv.conf': 'search example.com\nnameserver 10.0.0.53\n' }, fixed),
    ).toHaveLength(2)
    expect(tree.read('etc/network/interfaces')).toBe(
      '# The loopback network interface\nauto lo\niface lo inet loopback\n\nallow-hotplug eth0\nauto eth1\niface eth1 inet dhcp\niface eth0 inet static\n    # Written when this machine was moved.\n    address 192.0.2.7\n    netmask 255.255.255.0\n    gateway 192.0.2.1\n    dns-nameservers 192.0.2.53 2001:db8::53\n',
    )
    expect(tree.read('etc/resolv.conf')).toBe('search example.com\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n')
  })
  test('is told of IPv6, and of DHCP, also where a file of its own configured the interface', async () => {
    await give(
      {
        'etc/network/interfaces': 'source interfaces.d/*\n',
        'etc/network/interfaces.d/eth0': 'iface eth0 inet static\n  address 10.0.0.5\n',
      },
      fixed6,
    )
    expect(tree.read('etc/network/interfaces.d/eth0')).toBe('')
    expect(tree.read('etc/network/interfaces')).toBe(
      'source interfaces.d/*\nauto eth0\niface eth0 inet6 static\n    # Written when this machine was moved.\n    address 2001:db8::7\n    netmask 64\n    gateway 2001:db8::1\n    dns-nameservers 2001:db8::53\n',
    )
    tree.remove()
    await give({ 'etc/network/interfaces': debian }, { mode: 'DHCP' })
    expect(tree.read('etc/network/interfaces')).toContain('iface eth0 inet dhcp\n')
    expect(tree.read('etc/network/interfaces')).not.toContain('10.0.0.5')
  })
})

test('systemd-networkd gets a file that goes before all others', async () => {
  const enabled = {
    'etc/systemd/system/multi-user.target.wants/systemd-networkd.service': '',
    'etc/systemd/network/10-ethernet.network': '[Match]\nType=ether\n[Network]\nDHCP=yes\n',
  }
  await give(enabled, fixed)
  expect(tree.read('etc/systemd/network/00-portolan-eth0.network')).toBe(
    '# Written when this machine was moved.\n[Match]\nMACAddress=52:54:00:12:34:56\nType=ether\n\n[Network]\nAddress=192.0.2.7/24\nGateway=192.0.2.1\nDNS=192.0.2.53\nDNS=2001:db8::53\n',
  )
})

describe('netplan', () => {
  const cloudInit =
    'network:\n    version: 2\n    renderer: networkd\n    ethernets:\n        eth0:\n            addresses:\n            - 10.0.0.5/24\n            # the old gateway\n            routes:\n            -   to: default\n                via: 10.0.0.1\n        eth1:\n            dhcp4: true\n    bonds: {}\n'
  test('gets a file of ours, and what was said of the interface before is taken out; cloud-init keeps off', async () => {
    await give({ 'etc/netplan/50-cloud-init.yaml': cloudInit, 'etc/cloud/cloud.cfg.d/05_logging.cfg': '' }, fixed)
    expect(tree.read('etc/netplan/50-cloud-init.yaml')).toBe(
      'network:\n    version: 2\n    renderer: networkd\n    ethernets:\n        eth1:\n            dhcp4: true\n    bonds: {}\n',
    )
    expect(tree.read('etc/netplan/99-portolan-eth0.yaml')).toBe(
      '# Written when this machine was moved.\nnetwork:\n  version: 2\n  ethernets:\n    "eth0":\n      match: {macaddress: "52:54:00:12:34:56"}\n      set-name: "eth0"\n      dhcp4: false\n      dhcp6: false\n      addresses: ["192.0.2.7/24"]\n      routes:\n        - {to: "0.0.0.0/0", via: "192.0.2.1"}\n      nameservers:\n        addresses: ["192.0.2.53", "2001:db8::53"]\n',
    )
    expect(tree.read('etc/cloud/cloud.cfg.d/99-portolan-network.cfg')).toContain('network: {config: disabled}')
  })
  test('knows the interface by its MAC too, and leaves no empty mapping', async () => {
    await give(
      {
        'etc/netplan/01-lan.yaml': `network:\n  ethernets:\n    lan:\n      match:\n        macaddress: ${mac.toUpperCase()}\n      dhcp4: yes\n  version: 2\n`,
      },
      { mode: 'DHCP' },
    )
    expect(tree.read('etc/netplan/01-lan.yaml')).toBe('network:\n  ethernets: {}\n  version: 2\n')
  })
  test('in a form that is not understood is left alone, and the guest is not booted', async () => {
    const flow = 'network: {version: 2, ethernets: {eth0: {addresses: [10.0.0.5/24]}}}\n'
    await expect(give({ 'etc/netplan/01.yaml': flow }, fixed)).rejects.toMatchObject({ code: 'FIX_UP_FAILED', retryable: false })
    expect(tree.read('etc/netplan/01.yaml')).toBe(flow)
  })
})

describe("Red Hat's family", () => {
  const enabled = { 'etc/systemd/system/multi-user.target.wants/NetworkManager.service': '' }
  test('ifcfg files: what is about addresses is replaced, the rest stays', async () => {
    const before =
      'TYPE="Ethernet"\nBOOTPROTO="none"\nNAME="System eth0"\nUUID="5fb06bd0-0bb0-7ffb-45f1-d6edd65f3e03"\nDEVICE="eth0"\nONBOOT="no"\nIPADDR="10.0.0.5"\nPREFIX="24"\nGATEWAY="10.0.0.1"\nDNS1="10.0.0.53"\nZONE=public\n'
    await give(
      { ...enabled, 'etc/sysconfig/network-scripts/ifcfg-eth0': before, 'etc/sysconfig/network-scripts/ifcfg-lo': 'DEVICE=lo\n' },
      fixed,
    )
    expect(tree.read('etc/sysconfig/network-scripts/ifcfg-eth0')).toBe(
      'TYPE="Ethernet"\nNAME="System eth0"\nUUID="5fb06bd0-0bb0-7ffb-45f1-d6edd65f3e03"\nDEVICE="eth0"\nZONE=public\n# Written when this machine was moved.\nHWADDR=52:54:00:12:34:56\nONBOOT=yes\nBOOTPROTO=none\nIPADDR=192.0.2.7\nPREFIX=24\nGATEWAY=192.0.2.1\nDNS1=192.0.2.53\nDNS2=2001:db8::53\n',
    )
  })
  test('ifcfg files: the one with its MAC counts more than the one with its name', async () => {
    const files = {
      'etc/sysconfig/network-scripts/ifcfg-eth0': 'DEVICE=eth0\n',
      'etc/sysconfig/network-scripts/ifcfg-lan': `HWADDR=${mac.toUpperCase()}\nNAME=lan\n`,
    }
    await give(files, fixed6)
    expect(tree.read('etc/sysconfig/network-scripts/ifcfg-eth0')).toBe('DEVICE=eth0\n')
    expect(tree.read('etc/sysconfig/network-scripts/ifcfg-lan')).toContain(
      'IPV6ADDR=2001:db8::7/64\nIPV6_DEFAULTGW=2001:db8::1\nDNS1=2001:db8::53\n',
    )
  })
  test('NetworkManager: a keyfile that only root reads and that goes before the others', async () => {
    await give(enabled, fixed)
    const content = tree.read('etc/NetworkManager/system-connections/portolan-eth0.nmconnection')
    expect(content).toContain(
      'autoconnect-priority=999\n\n[ethernet]\nmac-address=52:54:00:12:34:56\n\n[ipv4]\nmethod=manual\naddress1=192.0.2.7/24,192.0.2.1\ndns=192.0.2.53;\n\n[ipv6]\nmethod=ignore\ndns=2001:db8::53;\n',
    )
    expect(
      (await import('node:fs')).statSync(`${tree.directory}/etc/NetworkManager/system-connections/portolan-eth0.nmconnection`).mode & 0o777,
    ).toBe(0o600)
  })
})

test('a guest that nothing known configures is not booted with addresses of its old place', async () => {
  await expect(give({ 'etc/fstab': '' }, fixed)).rejects.toMatchObject({
    code: 'FIX_UP_FAILED',
    message: expect.stringContaining('none of netplan'),
  })
})
