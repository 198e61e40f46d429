/** All that the campaign's two sites hold, on disk, in libvirt, in the kernel: what is there after a run and was not before has leaked. */
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readdir, readFile, readlink, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { networkInterfaces } from '../support/bridge-ports.ts'
import type { ChaosSite } from './chaos-site.ts'
import { dhcpServers, machineProcesses, processesOfControlPlanes } from './processes.ts'

const run = promisify(execFile)
/** One for all machines, and meant to stay (see the libvirt plugin). */
const staying = new Set(['portolan-isolated'])

export async function inventory(site: ChaosSite): Promise<string[]> {
  const virsh = (...list: string[]) => virshWords(site, list)
  const named = (kind: string, names: readonly string[]) => names.filter((name) => !staying.has(name)).map((name) => `${kind} ${name}`)
  const state = String(site.demo.east.options['stateDirectory'])
  return [
    ...named(
      'QEMU process',
      (await machineProcesses(site.directory)).map(({ pid }) => String(pid)),
    ),
    ...named('domain', await virsh('list', '--all', '--uuid')),
    ...named('network', await virsh('net-list', '--all', '--name')),
    ...named(
      'filter',
      (await virsh('nwfilter-list')).filter((word) => word.startsWith('portolan')),
    ),
    ...named('volume', await readdir(join(site.directory, 'libvirt', 'pool'))),
    ...named('file of qemu', await readdir(join(state, 'machines'))),
    ...named('interface', await networkInterfaces()),
    ...named(
      'mount',
      (await readFile('/proc/self/mounts', 'utf8'))
        .split('\n')
        .flatMap((line) => line.split(' ')[1] ?? [])
        .filter((path) => path.startsWith(site.directory)),
    ),
  ].toSorted()
}

/** What control planes started in this network namespace: nobody else waits for its end. */
export async function controlPlaneProcesses(): Promise<string[]> {
  const found = await processesOfControlPlanes(await readlink('/proc/self/ns/net'))
  return found.map(({ pid, arguments: words }) => `process ${pid} (${words.join(' ').trim()})`)
}

/** What belongs to isolated networks and no list of libvirt's has: their firewall rules and DHCP servers, in this network namespace. */
export async function partsOfIsolatedNetworks(): Promise<string[]> {
  const rules = await Promise.all(
    ['iptables', 'ip6tables'].flatMap((program) => ['filter', 'mangle'].map((table) => run(program, ['-w', '-t', table, '-S']))),
  )
  const servers = await dhcpServers(await readlink('/proc/self/ns/net'))
  return [
    ...rules.flatMap(({ stdout }) => stdout.split('\n').filter((rule) => rule.includes(' ptln'))).map((rule) => `firewall rule ${rule}`),
    ...servers
      .filter(({ arguments: words }) => words.some((word) => word.includes('portolan-isolated-')))
      .map(({ pid }) => `DHCP server ${pid}`),
  ]
}

/** Deletes both copies through their providers, and the records, which stay for ever by design. */
export async function clearSite(site: ChaosSite): Promise<void> {
  for (const { connection } of [site.demo.east, site.demo.west])
    for (const { id } of (await connection.discoverTopology({})).virtualMachines)
      await connection.virtualMachines.delete?.({ operationId: randomUUID(), vmId: id })
  const records = join(String(site.demo.east.options['stateDirectory']), 'records')
  for (const name of await readdir(records)) await rm(join(records, name), { recursive: true })
  for (const line of await virshLines(site, ['secret-list'])) {
    const [id, , usage] = line.trim().split(/\s+/)
    if (id && usage?.startsWith('/portolan/record/')) await virshLines(site, ['secret-undefine', '--secret', id])
  }
}

async function virshLines(site: ChaosSite, command: string[]): Promise<string[]> {
  const { stdout } = await run('virsh', ['--quiet', '--connect', String(site.demo.west.options['uri']), ...command], {
    env: { ...process.env, LC_ALL: 'C' },
    timeout: 60_000,
  })
  return stdout.split('\n').filter((line) => line.trim() !== '')
}

async function virshWords(site: ChaosSite, command: string[]): Promise<string[]> {
  return (await virshLines(site, command)).flatMap((line) => line.trim().split(/\s+/))
}
