import { readdir, readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { processesOfNetwork } from '../support/processes-of-network.ts'

interface SiteProcess {
  pid: number
  arguments: string[]
}

/** The QEMU processes that name a file below a directory: a site's, or one of its clouds'. */
export async function machineProcesses(directory: string): Promise<SiteProcess[]> {
  const all = await everyProcess()
  return all.filter(({ arguments: words }) => words[0]?.includes('qemu-system') && words.some((word) => word.includes(`${directory}/`)))
}

/** The libvirtd whose configuration is below a directory. */
export async function libvirtdOf(directory: string): Promise<SiteProcess[]> {
  const all = await everyProcess()
  return all.filter(({ arguments: words }) => words[0]?.endsWith('libvirtd') && words.some((word) => word.startsWith(`${directory}/`)))
}

/**
 * Engines, plugins and tools of control planes in a network namespace, whether these live or not. What a plugin starts to last, its cloud's machines, is its site's; and this
 * process has plugins of its own.
 */
export async function processesOfControlPlanes(network: string): Promise<SiteProcess[]> {
  const there = new Set(processesOfNetwork(network).map(({ pid }) => pid))
  const found = (await everyProcess()).filter(({ pid, arguments: words }) => there.has(pid) && isOfControlPlane(words))
  const parents = await Promise.all(found.map(({ pid }) => parentOf(pid)))
  return found.filter((_, index) => parents[index] !== process.pid)
}

/** libvirt's, in a network namespace. */
export async function dhcpServers(network: string): Promise<SiteProcess[]> {
  const there = new Set(processesOfNetwork(network).map(({ pid }) => pid))
  return (await everyProcess()).filter(({ pid, arguments: [program = ''] }) => there.has(pid) && basename(program) === 'dnsmasq')
}

/** NaN for one that has ended. */
async function parentOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  return Number(/^PPid:\s+(\d+)/m.exec(status)?.[1])
}

const programs = new Set(['restate-server', 'virsh', 'ssh'])
const pluginProcess = '/src/plugin-sdk/plugin-process.ts'

function isOfControlPlane([program = '', ...words]: readonly string[]): boolean {
  return programs.has(basename(program)) || words.some((word) => word.endsWith(pluginProcess))
}

async function everyProcess(): Promise<SiteProcess[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  return Promise.all(
    pids.map(async (pid) => ({
      pid: Number(pid),
      arguments: (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0'),
    })),
  )
}
