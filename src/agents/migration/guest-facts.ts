import { readFile } from 'node:fs/promises'
import { arch, release } from 'node:os'
import { controlProtocol, type AgentBootstrap, type AgentHello } from '../../transfer/control-protocol.ts'
import { listDisks } from './block-devices.ts'

/** What the control plane's pre-flight wants to know of this guest, read anew at every connection. */
export async function gatherHello(bootstrap: AgentBootstrap, agentInstanceId: string): Promise<AgentHello> {
  const memory = await readFile('/proc/meminfo', 'latin1')
  return {
    protocol: controlProtocol,
    role: bootstrap.role,
    migrationId: bootstrap.migrationId,
    agentInstanceId,
    bootId: (await readFile('/proc/sys/kernel/random/boot_id', 'latin1')).trim(),
    architecture: arch() === 'x64' ? 'x86_64' : arch() === 'arm64' ? 'aarch64' : arch(),
    kernelRelease: release(),
    libc: libcVersion(),
    memoryTotalBytes: kibOf(memory, 'MemTotal') * 1024,
    memoryAvailableBytes: kibOf(memory, 'MemAvailable') * 1024,
    disks: await listDisks(),
  }
}

function kibOf(meminfo: string, name: string): number {
  return Number(new RegExp(`^${name}: +(\\d+) kB`, 'm').exec(meminfo)?.[1] ?? 0)
}

/** Of the process that runs, which may be a libc that came with the agent. */
function libcVersion(): string {
  // Otherwise it asks for the names of all peers, and waits where no name server answers.
  Object.assign(process.report, { excludeNetwork: true })
  const report: unknown = process.report.getReport()
  const header = typeof report === 'object' && report !== null && 'header' in report ? report.header : null
  const version = typeof header === 'object' && header !== null && 'glibcVersionRuntime' in header ? header.glibcVersionRuntime : null
  return typeof version === 'string' ? `glibc ${version}` : 'unknown'
}
