/** With a fake virsh that keeps what domains and volumes there are, and answers as late as another process does. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { createMachine } from '../../../plugins/libvirt/create-machine.ts'
import { libvirtOptions } from '../../../plugins/libvirt/options.ts'
import { openSite, type Site } from '../../../plugins/libvirt/site.ts'
import { virshFailure } from '../../../plugins/libvirt/virsh-failure.ts'
import { readXml, textOf, childAt, type XmlElement } from '../../../plugins/libvirt/xml.ts'
import type { NewVirtualMachine } from '../../../src/plugin-sdk/index.ts'

const mebibyte = 1024 ** 2

function fakeSite(limits: Record<string, number>) {
  const domains = new Map<string, XmlElement>()
  const volumes = new Map<string, number>()
  const find = async (vmId: string) => {
    await delay(2)
    const domain = domains.get(vmId)
    if (!domain) throw virshFailure('look', 'error: Domain not found')
    return structuredClone(domain)
  }
  const look = async ([command = '', , vmId = '']: readonly string[]) => {
    if (command === 'list') return [...domains.keys()].join('\n')
    if (command === 'nodememstats') return `total  : ${2 ** 20} KiB\nfree   : ${2 ** 20} KiB\n`
    await find(vmId)
    if (command === 'domstate') return 'shut off'
    const [, sizeBytes] = [...volumes].find(([name]) => name.includes(vmId)) ?? []
    if (sizeBytes === undefined) throw virshFailure('measure', 'error: No such file or directory')
    return `Capacity:       ${sizeBytes}`
  }
  const define = async (_: readonly string[], tree: XmlElement) => {
    await delay(2)
    domains.set(textOf(childAt(tree, 'uuid')), tree)
    return ''
  }
  const pool = {
    directory: async () => '/p',
    availableBytes: async () => 1024 * mebibyte,
    async createEmpty(name: string, sizeBytes: number) {
      await delay(2)
      volumes.set(name, sizeBytes)
    },
  } as unknown as Site['volumes']
  const site: Site = {
    ...openSite(libvirtOptions.parse({ uri: 'qemu:///session', limits }), () => undefined),
    client: { look, define, read: async () => readXml('<pool/>') } as unknown as Site['client'],
    volumes: pool,
    pool: () => pool,
    domain: find,
    runningDomain: find,
    note: async () => {},
  }
  return { site, domains }
}

function wanted(): NewVirtualMachine {
  const uniqueId = randomUUID()
  const disks = [{ index: 0, sizeBytes: 4 * mebibyte }]
  return { name: `web-${uniqueId}`, uniqueId, cpuCount: 1, memoryBytes: 64 * mebibyte, firmware: 'BIOS', disks, nics: [] }
}

test.each([{ maxVirtualMachines: 1 }, { maxMemoryBytes: 100 * mebibyte }, { maxDiskBytes: 6 * mebibyte }])(
  'the limits %j hold for virtual machines that are made at the same time, too',
  async (limits) => {
    const { site, domains } = fakeSite(limits)
    const made = await Promise.allSettled(
      Array.from({ length: 4 }, () =>
        createMachine(
          site,
          { operationId: randomUUID() },
          { virtualMachine: wanted(), stage: 'ordinary', fill: async () => ({}), start: false },
        ),
      ),
    )
    const refused = made.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []))
    expect(refused).toEqual(Array.from({ length: 3 }, () => expect.objectContaining({ code: 'INSUFFICIENT_CAPACITY' })))
    expect(domains.size).toBe(1)
  },
)
