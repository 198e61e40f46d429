import { expect, test } from 'vitest'
import { metadataElement, readMetadata, type MachineMetadata } from '../../../plugins/libvirt/machine-metadata.ts'
import { reconnectNic, setMetadata } from '../../../plugins/libvirt/domain-xml.ts'
import { childAt, childrenNamed, element, readXml, writeXml } from '../../../plugins/libvirt/xml.ts'

const nic = readXml(
  `<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/><vlan><tag id='7'/></vlan><filterref filter='clean'><parameter name='IP' value='10.0.0.1'/></filterref><model type='virtio'/></interface>`,
)
const disk = readXml(
  `<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/portolan:1'/><target dev='vda' bus='virtio'/></disk>`,
)
const metadata: MachineMetadata = {
  stage: 'booted',
  createdBy: 'op "1"',
  bootedBy: 'op<2>',
  landing: { kernelPath: '/a & b/kernel', initrdPath: '/initrd', commandLine: 'console=ttyS0 x="y"' },
  diskPools: [{ index: 1, pool: 'fast & "near"' }],
  ownNics: [nic],
  fence: { fenceId: 'm "7".1', fenced: true, autostart: true, disks: [{ own: disk, sizeBytes: 4096 }] },
  operations: ['op "1"', 'op<2>'],
}

test('metadata is read back as written, with whatever prefixes libvirt gives it', () => {
  const domain = (xml: string) => readXml(`<domain><metadata>${xml}</metadata></domain>`)
  const written = writeXml(metadataElement(metadata))
  expect(readMetadata(domain(written))).toEqual(metadata)
  const prefixed = written.replaceAll(/<(\/?)(?=[a-z]+[\s>/])/g, '<$1portolan:')
  expect(readMetadata(domain(prefixed))).toEqual(metadata)
})

test("a domain that isn't ours has none", () => {
  expect(readMetadata(readXml('<domain><name>x</name></domain>'))).toMatchObject({ stage: 'foreign', operations: [] })
})

test("other programs' metadata is left alone", () => {
  const domain = readXml(
    `<domain><metadata><os:os xmlns:os="u"/><portolan:machine xmlns:portolan="p" stage="landing"/></metadata></domain>`,
  )
  setMetadata(domain, metadata)
  expect(childrenNamed(childAt(domain, 'metadata'), 'os')).toHaveLength(1)
  expect(childrenNamed(childAt(domain, 'metadata'), 'machine')).toHaveLength(1)
})

test('only the latest operations are kept', () => {
  const many = metadataElement({ ...metadata, operations: Array.from({ length: 200 }, (_, index) => `op-${index}`) })
  const kept = readMetadata(element('domain', {}, element('metadata', {}, many))).operations
  expect(kept).toHaveLength(64)
  expect(kept.at(-1)).toBe('op-199')
})

test('an isolated NIC keeps what the guest sees, and nothing of its old connection', () => {
  const isolated = structuredClone(nic)
  reconnectNic(isolated, { network: 'portolan-isolated-x', filter: 'f' })
  expect(writeXml(isolated)).toBe(
    '<interface type="network"><mac address="52:54:00:00:00:01"/><model type="virtio"/><source network="portolan-isolated-x"/><filterref filter="f"/></interface>',
  )
})
