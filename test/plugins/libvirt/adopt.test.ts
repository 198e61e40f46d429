/** With a fake virsh that keeps one domain. */
import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { adopt } from '../../../plugins/libvirt/adopt.ts'
import { diskElements, diskPath } from '../../../plugins/libvirt/describe-machine.ts'
import { setMetadata } from '../../../plugins/libvirt/domain-xml.ts'
import { isUnstartable, ownDefinition } from '../../../plugins/libvirt/fenced-definition.ts'
import { fencing } from '../../../plugins/libvirt/fencing.ts'
import { readMetadata, type AdoptedMachine } from '../../../plugins/libvirt/machine-metadata.ts'
import { libvirtOptions } from '../../../plugins/libvirt/options.ts'
import { openSite, type Site } from '../../../plugins/libvirt/site.ts'
import { virshFailure } from '../../../plugins/libvirt/virsh-failure.ts'
import { childAt, readXml, type XmlElement } from '../../../plugins/libvirt/xml.ts'

const vmId = randomUUID()
const operation = () => ({ operationId: randomUUID(), vmId })
const diskOf = (file: string, type: string) =>
  readXml(
    `<disk type='file' device='disk'><driver name='qemu' type='${type}'/><source file='${file}'/><target dev='vda' bus='virtio'/></disk>`,
  )
const own = diskOf('/pool/own.raw', 'raw')
const ownFiles = (domain: XmlElement) => diskElements(ownDefinition(structuredClone(domain))).map(diskPath)

/** It is off, and adopted. */
function adoptedSite(fence: AdoptedMachine['fence']) {
  const site = { autostart: fence === undefined, stored: readXml(`<domain><name>vm</name><uuid>${vmId}</uuid><os/><devices/></domain>`) }
  childAt(site.stored, 'devices')!.children = [diskOf('/pool/received.qcow2', 'qcow2')]
  const adopted: AdoptedMachine = { stage: 'foreign', os: readXml('<os><boot dev="hd"/></os>'), disks: [own], fence }
  setMetadata(site.stored, { stage: 'landing', ownNics: [], operations: [], adopted })
  const call = async ([command = '', , , flag]: readonly string[]) => {
    if (command === 'net-destroy') throw virshFailure('look', 'error: Network not found')
    if (command === 'autostart') site.autostart = flag === undefined
    return ''
  }
  const look = async ([command = '']: readonly string[]) => {
    if (command === 'dominfo') return `Persistent:     yes\nAutostart:      ${site.autostart ? 'enable' : 'disable'}`
    return command === 'domblkinfo' ? 'Capacity:       4096' : 'shut off'
  }
  const define = async (_command: readonly string[], tree: XmlElement) => void (site.stored = structuredClone(tree))
  const fake: Site = {
    ...openSite(libvirtOptions.parse({ uri: 'qemu:///session' }), () => undefined),
    client: { call, look, define } as unknown as Site['client'],
    volumes: { delete: async () => undefined } as unknown as Site['volumes'],
    domain: async () => ownDefinition(structuredClone(site.stored)),
    once: async (_operation, work) => work(),
  }
  return { site, fake }
}

test.each([
  ['that had no fence', undefined],
  ['that had one of another id', { fenceId: 'left', fenced: true, autostart: true, disks: [{ own, sizeBytes: 4096 }] }],
] as [string, AdoptedMachine['fence']][])(
  'a machine %s and was fenced while it was adopted is given back under that fence, whose release brings back its own disks and autostart',
  async (_, before) => {
    const { site, fake } = adoptedSite(before)
    await fencing(fake).fence({ ...operation(), fenceId: 'meanwhile' })
    expect(ownFiles(site.stored)).toEqual(['/pool/received.qcow2'])
    await adopt(fake).giveBack(operation())
    expect(isUnstartable(site.stored)).toBe(true)
    expect(ownFiles(site.stored)).toEqual(['/pool/own.raw'])
    expect(readMetadata(site.stored)).toMatchObject({ stage: 'foreign', fence: { fenceId: 'meanwhile', fenced: true } })
    await fencing(fake).release({ ...operation(), fenceId: 'meanwhile' })
    expect(diskElements(site.stored)).toEqual([own])
    expect(site.autostart).toBe(true)
  },
)
