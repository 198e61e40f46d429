/**
 * Bridges that libvirt made and no longer knows of. It notes a network when all of it is there, and forgets it before it takes anything away (networkStartNetwork and
 * networkShutdownNetwork of libvirt's bridge_driver.c): a libvirtd that is killed in between leaves bridge, firewall rules and DHCP server until the host's next boot,
 * virsh can't remove them, and a new network can't have that bridge's name or subnet.
 */
import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { PluginLog } from '../../src/plugin-sdk/index.ts'

const timeoutMs = 30_000

/** Whose names begin so, on this machine. Asked for before libvirt is asked whether it has the network: it may be making it at this moment. */
export async function bridgesNamed(prefix: string): Promise<string[]> {
  const listed = await run('ip', ['-json', 'link', 'show', 'type', 'bridge']).catch(() => '[]')
  return (JSON.parse(listed || '[]') as { ifname?: string }[]).flatMap(({ ifname }) => (ifname?.startsWith(prefix) ? [ifname] : []))
}

/** Removes bridges of which libvirt knows nothing, with what it added for them. What can't be removed harms nothing, and is logged with what to do. */
export async function removeLeftBridges(left: readonly string[], log: PluginLog): Promise<void> {
  for (const bridge of left) {
    if (!(await bridgesNamed(bridge)).includes(bridge)) continue
    try {
      // The bridge last: it is what the next call finds.
      for (const program of ['iptables', 'ip6tables']) for (const table of ['filter', 'mangle']) await removeRules(program, table, bridge)
      await endDhcpServer(bridge)
      await run('ip', ['link', 'delete', 'dev', bridge])
      log('info', `A libvirtd that ended too early had left the bridge ${bridge} behind; it is removed.`, { bridge })
    } catch (error) {
      log(
        'warn',
        `A libvirtd that ended too early has left the bridge ${bridge} behind, and it could not be removed: ${String(error)} No virtual machine is on it. Remove it as root with: ip link delete dev ${bridge}`,
        { bridge },
      )
    }
  }
}

/** Those that libvirt added for the bridge. Its names and values hold no white space. */
async function removeRules(program: string, table: string, bridge: string): Promise<void> {
  for (const rule of (await run(program, ['-w', '-t', table, '-S'])).split('\n')) {
    const [append, ...words] = rule.split(' ')
    if (append === '-A' && words.includes(bridge)) await run(program, ['-w', '-t', table, '-D', ...words])
  }
}

/** libvirt starts dnsmasq with a file that names the bridge, in its own mount namespace where it has one. */
async function endDhcpServer(bridge: string): Promise<void> {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    const [, configuration] = /^[^\0]*dnsmasq\0--conf-file=([^\0]+)\0/.exec(command) ?? []
    if (!configuration) continue
    const lines = await readFile(join('/proc', pid, 'root', configuration), 'utf8').catch(() => '')
    if (lines.split('\n').includes(`interface=${bridge}`)) end(Number(pid))
  }
}

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGTERM')
  } catch (error) {
    // It may have gone since: libvirt's dnsmasq are two, and one ends the other.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

async function run(program: string, programArguments: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program, programArguments, {
    timeout: timeoutMs,
    env: { PATH: process.env['PATH'], LC_ALL: 'C' },
  })
  return stdout
}
