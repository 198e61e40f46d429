/** With a fake virsh that keeps what domains there are. */
import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { requireCapacity, withinLimits } from '../../../plugins/libvirt/capacity.ts'
import { libvirtOptions } from '../../../plugins/libvirt/options.ts'
import { openSite, type Site } from '../../../plugins/libvirt/site.ts'
import { virshFailure } from '../../../plugins/libvirt/virsh-failure.ts'
import { readXml } from '../../../plugins/libvirt/xml.ts'
import { setMetadata } from '../../../plugins/libvirt/domain-xml.ts'

const mebibyte = 1024 ** 2
const host = {
  id: 'h',
  name: 'h',
  architecture: 'x86_64',
  cpuCount: 1,
  memoryBytes: 1024 * mebibyte,
  freeMemoryBytes: 1024 * mebibyte,
} as const

/** `listed` are those that were there when it was asked for the list. */
function siteWith(limits: Record<string, number>, listed: string[], there: string[]): Site {
  const find = (vmId: string) => {
    if (!there.includes(vmId)) throw virshFailure('look', 'error: Domain not found')
    const domain = readXml(`<domain><uuid>${vmId}</uuid><memory unit='MiB'>64</memory></domain>`)
    setMetadata(domain, { stage: 'ordinary', createdBy: 'us', ownNics: [], operations: [] })
    return domain
  }
  const look = async ([command = '', , vmId = '']: readonly string[]) => {
    if (command === 'nodememstats') return `total  : ${2 ** 20} KiB\nfree   : ${2 ** 20} KiB\n`
    if (command === 'list') return listed.join('\n')
    find(vmId)
    return 'shut off'
  }
  const read = async () => readXml('<pool><target><path>/p</path></target></pool>')
  return {
    ...openSite(libvirtOptions.parse({ uri: 'qemu:///session', limits }), () => undefined),
    client: { look, read } as unknown as Site['client'],
    pool: () => ({ directory: async () => '/p', availableBytes: async () => 1024 * mebibyte }) as unknown as ReturnType<Site['pool']>,
    domain: async (vmId) => find(vmId),
    runningDomain: async (vmId) => find(vmId),
  }
}

test('a domain that is deleted once it was listed counts no more, and keeps nobody from being told what is left of the limits', async () => {
  const [kept, deleted] = [randomUUID(), randomUUID()]
  const site = siteWith({ maxMemoryBytes: 256 * mebibyte }, [kept, deleted], [kept])
  expect(await withinLimits(site, host)).toEqual({ ...host, freeMemoryBytes: 192 * mebibyte })
})

const wanted = {
  name: 'web',
  uniqueId: randomUUID(),
  cpuCount: 1,
  memoryBytes: 64 * mebibyte,
  firmware: 'BIOS' as const,
  disks: [{ index: 0, sizeBytes: 4 * mebibyte }],
  nics: [],
}

test.each([{ maxVirtualMachines: 1 }, { maxMemoryBytes: 100 * mebibyte }, { maxDiskBytes: mebibyte }])(
  "what the cloud's limits %j refuse is refused for good, since nobody gives way by himself",
  async (limits) => {
    const there = [randomUUID()]
    await expect(requireCapacity(siteWith(limits, there, there), wanted)).rejects.toMatchObject({
      code: 'INSUFFICIENT_CAPACITY',
      retryable: false,
    })
  },
)

test('what there is no room for on the host is refused for now', async () => {
  const crowded = { ...wanted, memoryBytes: 2048 * mebibyte }
  await expect(requireCapacity(siteWith({}, [], []), crowded)).rejects.toMatchObject({ code: 'INSUFFICIENT_CAPACITY', retryable: true })
})
