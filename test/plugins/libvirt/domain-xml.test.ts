import { expect, test } from 'vitest'
import { cpuCountOf } from '../../../plugins/libvirt/describe-machine.ts'
import { domainXml } from '../../../plugins/libvirt/domain-xml.ts'
import { libvirtOptions } from '../../../plugins/libvirt/options.ts'
import { childAt, textOf } from '../../../plugins/libvirt/xml.ts'

test.each([
  { acceleration: 'emulation', cpuCount: 1, room: '2' },
  { acceleration: 'emulation', cpuCount: 3, room: '3' },
  { acceleration: 'kvm', cpuCount: 1, room: '1' },
])('under $acceleration a machine with $cpuCount processors has room for $room', ({ acceleration, cpuCount, room }) => {
  const options = libvirtOptions.parse({ uri: 'qemu:///system', acceleration })
  const vm = {
    name: 'web',
    uniqueId: '6f1c0a34-0000-4000-8000-000000000000',
    cpuCount,
    memoryBytes: 2 ** 29,
    firmware: 'BIOS' as const,
    disks: [],
    nics: [],
  }
  const domain = domainXml(vm, {
    options,
    diskPaths: [],
    consolePath: '/console',
    metadata: { stage: 'landing', ownNics: [], operations: [] },
  })
  expect(cpuCountOf(domain)).toBe(cpuCount)
  expect(textOf(childAt(domain, 'vcpu'))).toBe(room)
})
