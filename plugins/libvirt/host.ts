/** The machine that libvirtd runs on. */
import type { HostDescription } from '../../src/plugin-sdk/index.ts'
import type { LibvirtClient } from './client.ts'
import type { Site } from './site.ts'
import { childAt, countIn, textOf } from './xml.ts'

/** libvirt's own name for its host, which is the host's id here. */
export function hostName(client: LibvirtClient, signal?: AbortSignal): Promise<string> {
  return client.look(['hostname'], { what: "ask for the host's name", signal })
}

export async function describeHost(site: Site, signal?: AbortSignal): Promise<HostDescription> {
  const { client } = site
  const [name, nodeInfo, capabilities, freeDiskBytes, memory] = await Promise.all([
    hostName(client, signal),
    client.look(['nodeinfo'], { what: 'look at the host', signal }),
    client.read(['capabilities'], { what: "ask for the host's capabilities", signal }),
    site.volumes.availableBytes(signal),
    readMemory(client, signal),
  ])
  const number = (label: string) => countIn(new RegExp(`^${label}:\\s*(\\d+)`, 'm').exec(nodeInfo)?.[1])
  return {
    id: name,
    name,
    architecture: textOf(childAt(capabilities, 'host', 'cpu', 'arch')) === 'aarch64' ? 'aarch64' : 'x86_64',
    cpuCount: number('CPU\\(s\\)'),
    memoryBytes: memory.totalBytes,
    freeDiskBytes,
    freeMemoryBytes: memory.freeBytes,
  }
}

/** `freeBytes`: free, or held by caches that the kernel gives back. (`nodeinfo` leaves out memory that was added while the host ran.) */
export async function readMemory(client: LibvirtClient, signal?: AbortSignal): Promise<{ totalBytes: number; freeBytes: number }> {
  const statistics = await client.look(['nodememstats'], { what: "ask for the host's memory", signal })
  const kibibytes = (label: string) => countIn(new RegExp(`^${label}\\s*:\\s*(\\d+) KiB$`, 'm').exec(statistics)?.[1])
  const bytes = (...labels: string[]) => countIn(String(labels.reduce((total, label) => total + kibibytes(label), 0) * 1024))
  return { totalBytes: bytes('total'), freeBytes: bytes('free', 'buffers', 'cached') }
}
