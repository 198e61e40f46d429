/** A libvirt of our own, for demo and tests on machines where none runs: its files lie below one directory, and it ends with its owner. */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { isInPrivateNetwork } from './enter-private-network.ts'
import { libvirtdConfiguration, privateLibvirtScript, qemuConfiguration } from './private-libvirt-script.ts'

const startTimeoutMs = 30_000
const callTimeoutMs = 20_000
/** The kernel's limit for a socket's path, less its closing zero byte. */
const longestSocketPath = 107

export interface PrivateLibvirt {
  uri: string
  /** Serial consoles can be written here: see the plugin's `consoleDirectory`. */
  consoleDirectory: string
  /** Ends networks, virtual machines and daemons. The directory, images included, is the caller's to delete. */
  stop(): Promise<void>
}

/**
 * Starts libvirtd below `directory` (absolute, ours alone), with a storage pool and a network named `default`, in a private network namespace (enterPrivateNetwork).
 * Several may run side by side. When this process dies, even by SIGKILL, all of it dies. Aborting `signal` while it starts stops it.
 */
export async function startPrivateLibvirt(options: { directory: string; signal?: AbortSignal }): Promise<PrivateLibvirt> {
  const { directory, signal } = options
  const socketPath = join(directory, 'run', 'libvirt-sock')
  if (!isInPrivateNetwork())
    throw new Error(
      'A private libvirt is started only in a private network namespace; nothing was started. Call enterPrivateNetwork first.',
    )
  if (socketPath.length > longestSocketPath)
    throw new Error(
      `The socket path ${socketPath} is longer than ${longestSocketPath} bytes; nothing was started. Choose a shorter directory.`,
    )

  await writeConfiguration(directory)
  const { child, logPath } = await spawnSupervisor(directory)
  const uri = `qemu+unix:///system?socket=${encodeURIComponent(socketPath)}`
  const virsh = async (...args: string[]) => (await callVirsh(uri, args, signal)).trim()
  try {
    await waitUntilItAnswers(child, logPath, () => virsh('version'), signal)
    await createPool(virsh, join(directory, 'pool'))
    await createNetwork(virsh, directory)
  } catch (error) {
    await endSupervisor(child)
    throw error
  }
  return {
    uri,
    consoleDirectory: join(directory, 'console'),
    async stop() {
      if (child.exitCode === null && child.signalCode === null) await removeNetworks(uri)
      await endSupervisor(child)
    },
  }
}

async function writeConfiguration(directory: string): Promise<void> {
  await mkdir(join(directory, 'etc'), { recursive: true, mode: 0o700 })
  await mkdir(join(directory, 'pool'), { recursive: true })
  await mkdir(join(directory, 'console'), { recursive: true })
  await writeFile(join(directory, 'libvirtd.conf'), libvirtdConfiguration)
  await writeFile(join(directory, 'etc', 'qemu.conf'), qemuConfiguration)
}

async function spawnSupervisor(directory: string): Promise<{ child: ChildProcess; logPath: string }> {
  const logPath = join(directory, 'libvirtd.log')
  const log = await open(logPath, 'a')
  try {
    const child = spawn(
      'unshare',
      ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--', 'sh', '-c', privateLibvirtScript, 'sh', directory],
      { stdio: ['pipe', log.fd, log.fd], env: { ...process.env, LC_ALL: 'C' } },
    )
    await once(child, 'spawn')
    return { child, logPath }
  } finally {
    await log.close()
  }
}

async function waitUntilItAnswers(child: ChildProcess, logPath: string, ask: () => Promise<unknown>, signal?: AbortSignal): Promise<void> {
  const deadline = Date.now() + startTimeoutMs
  for (;;) {
    signal?.throwIfAborted()
    const ended = child.exitCode !== null || child.signalCode !== null
    try {
      if (!ended) return void (await ask())
    } catch (error) {
      signal?.throwIfAborted()
      if (Date.now() < deadline) {
        await pause(100, undefined, signal ? { signal } : {})
        continue
      }
      throw new Error(
        `The private libvirtd did not answer within ${startTimeoutMs / 1000} s. Its log:\n${await readFile(logPath, 'utf8')}`,
        { cause: error },
      )
    }
    throw new Error(`The private libvirtd ended as it started. Its log:\n${await readFile(logPath, 'utf8')}`)
  }
}

type Virsh = (...args: string[]) => Promise<string>

async function createPool(virsh: Virsh, path: string): Promise<void> {
  await virsh('pool-define-as', '--name', 'default', '--type', 'dir', '--target', path)
  await virsh('pool-start', 'default')
}

/** A bridge with DHCP and no firewall rules: nothing is routed out of a namespace that has no other interface. */
async function createNetwork(virsh: Virsh, directory: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const subnet = await freeSubnet()
    const xmlPath = join(directory, 'network.xml')
    await writeFile(xmlPath, networkXml(`portolan${randomBytes(3).toString('hex')}`, subnet))
    await virsh('net-define', xmlPath)
    try {
      await virsh('net-start', 'default')
      return
    } catch (error) {
      // Another private libvirt in this namespace may have taken the same subnet a moment ago.
      if (attempt === 5) throw error
      await virsh('net-undefine', 'default')
    }
  }
}

/** The first three bytes of a /24 to which nothing is routed here. (Node's list of interfaces leaves out bridges without a running guest.) */
async function freeSubnet(): Promise<string> {
  const routes = await readFile('/proc/net/route', 'utf8')
  for (;;) {
    const third = randomInt(64, 192)
    // Destinations are hexadecimal, first byte last.
    const destination = `00${third.toString(16).padStart(2, '0')}A8C0`.toUpperCase()
    if (!routes.includes(`\t${destination}\t`)) return `192.168.${third}`
  }
}

/**
 * `no-ping`: DHCP would otherwise spend 3 s of every boot on making sure that the address is free. A machine that goes on from a saved state has the lease that it had then, so leases last for as
 * long as such a state may be used.
 */
function networkXml(bridge: string, subnet: string): string {
  return `<network xmlns:dnsmasq='http://libvirt.org/schemas/network/dnsmasq/1.0'>
  <name>default</name>
  <forward mode='open'/>
  <bridge name='${bridge}' stp='off' delay='0'/>
  <ip address='${subnet}.1' netmask='255.255.255.0'><dhcp><range start='${subnet}.10' end='${subnet}.250'><lease expiry='24' unit='hours'/></range></dhcp></ip>
  <dnsmasq:options><dnsmasq:option value='no-ping'/></dnsmasq:options>
</network>`
}

/** Bridges belong to the namespace, not to a process: they have to be taken down by whoever knows them. */
async function removeNetworks(uri: string): Promise<void> {
  const networks = (await callVirsh(uri, ['net-list', '--uuid'])).split('\n').filter(Boolean)
  for (const network of networks) await callVirsh(uri, ['net-destroy', network])
}

async function endSupervisor(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.stdin?.end()
  const overdue = setTimeout(() => child.kill('SIGKILL'), 5000)
  await exited
  clearTimeout(overdue)
}

async function callVirsh(uri: string, args: string[], signal?: AbortSignal): Promise<string> {
  const { stdout } = await promisify(execFile)('virsh', ['--quiet', '--connect', uri, ...args], {
    env: { ...process.env, LC_ALL: 'C' },
    timeout: callTimeoutMs,
    ...(signal ? { signal } : {}),
  })
  return stdout
}
