/** What the libvirt plugin reads of libvirtd: definitions of domains and networks, virsh's tables, its errors. */
import { BlockList, isIP, isIPv6 } from 'node:net'
import * as fc from 'fast-check'
import { describe, expect } from 'vitest'
import { describeMachine, diskElements, nicElements } from '../../plugins/libvirt/describe-machine.ts'
import { ownDefinition } from '../../plugins/libvirt/fenced-definition.ts'
import { factsOf } from '../../plugins/libvirt/fencing.ts'
import { describeNetwork, leasedAddresses } from '../../plugins/libvirt/networks.ts'
import { isNotFound, isPassing, virshFailure } from '../../plugins/libvirt/virsh-failure.ts'
import { readXml } from '../../plugins/libvirt/xml.ts'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { fuzz } from './support/fuzz.ts'
import { like, siteThat, treeLike } from './support/libvirt-answers.ts'

const disk = "<disk type='file' device='disk'><source file='/p/a.raw'/><target dev='vda' bus='virtio'/></disk>"
const nic = "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/></interface>"
const domain = treeLike(
  readXml(`<domain><uuid>A</uuid><name>n</name><memory unit='KiB'>2048</memory><vcpu current='1'>2</vcpu>
<os firmware='efi'><type arch='x86_64'>hvm</type><loader type='pflash'>/l</loader></os>
<metadata><p:machine xmlns:p='x' stage='landing' created-by='o'><disk-pool index='0' pool='b'/>${nic}<operation id='1'/>
<fence id='f' fenced='yes' autostart='no'><own size-bytes='512'>${disk}</own></fence><adopted stage='foreign'><os/>${disk}</adopted></p:machine></metadata>
<devices>${disk}${disk.replaceAll('vda', 'vdb')}${nic}<interface type='bridge'><source bridge='br0'/></interface></devices></domain>`),
)
const network = treeLike(
  readXml(`<network><name>default</name><forward mode='nat'/><ip address='192.168.122.1' netmask='255.255.255.0'><dhcp>
<host mac='52:54:00:00:00:01' ip='192.168.122.5'/></dhcp></ip><ip family='ipv6' address='fd00:1::1' prefix='64'/>
<ip family='ipv6' address='::ffff:10.0.0.1' prefix='112'/></network>`),
)
const said = like("error: failed to get domain 'x'\nerror: Domain not found: Storage volume not found, unsupported, No space left")
const lease = '2026-11-22 15:06:26   52:54:00:00:00:01   ipv4   192.168.122.9/24   landing   01:52'
const leases = like(` ${lease}\n ${lease.replace('ipv4', 'ipv6').replace('192.168.122.9', 'fd00:1::9')}\n`)

describe('a domain of libvirt', () => {
  const failing = said.map((stderr) => virshFailure('ask', stderr))
  const answers = fc.record({
    domstate: fc.oneof(fc.constantFrom('running', 'shut off', 'paused', 'toString', '__proto__'), fc.string()),
    domblkinfo: fc.oneof(like('Capacity:       4096\nAllocation:     0'), failing),
    'net-dumpxml': fc.oneof(network, failing),
    'net-dhcp-leases': fc.oneof(leases, failing),
  })
  fuzz(
    'is described in numbers that count and addresses that are some, or not at all',
    fc.tuple(domain, answers),
    async ([tree, given]) => {
      const own = ownDefinition(structuredClone(tree))
      const found = await describeMachine(siteThat(given, own), 'id', 'host').catch((error: unknown) => {
        expect([given['net-dumpxml'], given['net-dhcp-leases'], given.domblkinfo]).toContain(error)
      })
      if (!found) return
      expect(['RUNNING', 'SUSPENDED', 'STOPPED', 'UNKNOWN']).toContain(found.power)
      for (const count of [found.cpuCount, found.memoryBytes, ...found.disks.map(({ sizeBytes }) => sizeBytes)])
        expect(Number.isSafeInteger(count) && count >= 0).toBe(true)
      expect(found.disks.map(({ index }) => index)).toEqual(diskElements(own).map((_, index) => index))
      expect(found.nics).toHaveLength(nicElements(own).length)
      for (const { addresses } of found.nics) for (const address of addresses) expect(isIP(address)).not.toBe(0)
    },
  )

  const labels = ['Persistent', 'Autostart', 'Managed save']
  const facts = fc.shuffledSubarray(labels).chain((order) =>
    fc.record({
      order: fc.constant(order),
      values: fc.dictionary(fc.constantFrom(...labels), fc.constantFrom('yes', 'no', 'enable', 'disable', 'unknown', 'yes, no', '')),
      name: fc.oneof(fc.string(), fc.constantFrom('a\u2028Persistent:     yes', 'a\rManaged save:   yes', 'Autostart: enable')),
    }),
  )
  fuzz('has the traits that virsh says it has, whatever its name is', facts, async ({ order, values, name }) => {
    const lines = order.map((label) => `${`${label}:`.padEnd(16)}${values[label] ?? ''}`)
    const table = [`Name:           ${name.replaceAll('\n', '')}`, ...lines, 'Security DOI:   0'].join('\n')
    const is = (label: string, value: string) => order.includes(label) && values[label] === value
    expect(await factsOf(siteThat({ dominfo: table }, readXml('<a/>')), 'id')).toEqual({
      persistent: is('Persistent', 'yes'),
      autostart: is('Autostart', 'enable'),
      managedSave: is('Managed save', 'yes'),
    })
  })
})

describe('a network of libvirt', () => {
  fuzz('has addresses that lie in their subnets, and no others', network, (tree) => {
    const { addresses, reservations } = describeNetwork(tree)
    for (const { address, cidr } of addresses) {
      const family = isIPv6(address) ? 'ipv6' : 'ipv4'
      const [subnet = '', prefix] = cidr.split('/')
      const list = new BlockList()
      list.addSubnet(subnet, Number(prefix), family)
      expect(list.check(address, family)).toBe(true)
    }
    for (const { address } of reservations) expect(isIP(address)).not.toBe(0)
  })

  const mac = '52:54:00:00:00:01'
  const held = { name: 'n', forwardMode: 'nat', addresses: [], reservations: [] }
  const given = fc.array(
    fc.record({
      expiry: fc.integer({ min: 10, max: 59 }).map((second) => `2026-11-22 15:00:${second}`),
      mac: fc.constantFrom(mac, mac.toUpperCase().replace('01', '0A'), '52:54:00:00:00:02'),
      address: fc.oneof(fc.ipV4(), fc.ipV6()),
    }),
  )
  const leased = (table: string) => leasedAddresses(siteThat({ 'net-dhcp-leases': table }, readXml('<a/>')).client, held, mac)
  fuzz('gave a MAC the newest of its addresses in each family', given, async (rows) => {
    const familyOf = (address: string) => (isIPv6(address) ? 'ipv6' : 'ipv4')
    const lines = rows.map((row) => ` ${row.expiry}   ${row.mac}   ${familyOf(row.address)}   ${row.address}/24   -   ff`)
    const newest = ['ipv4', 'ipv6'].flatMap((family) => {
      const own = rows.filter((row) => row.mac === mac && familyOf(row.address) === family)
      return own.find((row) => own.every(({ expiry }) => expiry <= row.expiry))?.address ?? []
    })
    expect(await leased(lines.join('\n'))).toEqual(newest)
  })
  fuzz('gave it addresses only, whatever the table says', leases, async (table) => {
    const addresses = await leased(table)
    expect(addresses.length).toBeLessThanOrEqual(2)
    for (const address of addresses) expect(isIP(address)).not.toBe(0)
  })
})

describe("virsh's errors", () => {
  const check = (stderr: string) => {
    const failure = virshFailure('ask', stderr)
    expect(failure).toBeInstanceOf(ProviderError)
    expect(failure.message.length).toBeLessThan(7_000)
    // oxlint-disable-next-line no-control-regex
    expect(failure.message).not.toMatch(/[\0-\x1f]/)
    expect(failure.remedy).not.toBe('')
    // What is taken for gone may be made again, or be forgotten: only libvirt's own words make it so.
    if (isNotFound(failure, 'domain')) expect(stderr).toContain('Domain not found')
    if (failure.code === 'NOT_FOUND') expect(stderr).toContain('not found')
    isPassing(stderr)
  }
  fuzz('become one of ours, in a message of bounded length', fc.oneof(said, fc.string({ unit: 'binary' })), check)
  fuzz(
    'that are long are read soon, and to their end',
    fc.constantFrom('pool ', 'failed to connect to the hypervisor', "failed to get domain '", 'error: ', '\n', 'network '),
    (part) => {
      check(part.repeat(100_000))
      if (!/connect/.test(part))
        expect(isNotFound(virshFailure('ask', `${part.repeat(100_000)}\nerror: Domain not found`), 'domain')).toBe(true)
    },
    6,
  )
})
