/** A guest for a bench: the full Debian image, one more disk, a NIC to this machine, and one to the other guest. Nothing outlives `stop`. */
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { artifacts, guestMemoryBytes } from '../../setup/artifacts.ts'
import { runCommand } from '../../setup/run-command.ts'

export interface GuestOptions {
  name: string
  /** Of the bench: sockets, logs, and the boot disk's overlay. */
  directory: string
  diskPath: string
  cpuCount: number
  /** Of the NIC that leads to the other guest. */
  linkAddress: string
  /** The tap device behind that NIC. */
  tap: string
  log: (line: string) => void
  signal: AbortSignal
}

export interface Guest {
  name: string
  linkAddress: string
  /** The added disk's name in the guest. */
  diskDevice: string
  /** Runs a shell script as root, with a file of this machine on its standard input. Throws with what it printed when it fails. */
  run(script: string, inputPath?: string): Promise<string>
  /** What the vCPUs have used so far, seconds of this machine's CPU. */
  cpuSeconds(): number
  /** Writes a file of the guest. */
  put(path: string, content: string): Promise<void>
  stop(): Promise<void>
}

/**
 * Emulated vector instructions run at half the speed of OpenSSL's plain code. The agent turns them off for itself (setup/steps/agent-runtime.ts), so
 * ssh and the measured limit get the same.
 */
export const plainCode = 'OPENSSL_ia32cap=~0x1000020000000000:~0xffffffff'

export const diskSerial = 'portolan-disk-0'

export async function startGuest(options: GuestOptions): Promise<Guest> {
  const { name, directory, signal, log } = options
  const port = await freePort()
  const command = commandLine(options, port)
  log(command.map((argument) => (/[\s{"]/.test(argument) ? `'${argument}'` : argument)).join(' '))
  const qemu = spawn(command[0]!, command.slice(1), { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, TMPDIR: directory } })
  const ended = new Promise<void>((resolve) => qemu.once('exit', () => resolve()))
  const stop = async (): Promise<void> => {
    qemu.kill('SIGKILL')
    await ended
  }
  const ssh = sshCommand(directory, name, port)
  const run = (script: string, inputPath = '/dev/null'): Promise<string> => {
    if (qemu.exitCode !== null) throw new Error(`The guest ${name} has ended.`)
    const remote = `export PATH=/usr/sbin:/usr/bin:/sbin:/bin; ${script}`
    return runCommand('sh', ['-c', 'exec "$@" <"$0"', inputPath, 'ssh', ...ssh, remote], { signal, timeoutMs: 600_000 })
  }
  try {
    await untilUp(run, signal)
    await run(prepareScript(options))
    return {
      name,
      linkAddress: options.linkAddress,
      diskDevice: 'vdb',
      run,
      cpuSeconds: () => vcpuSeconds(qemu.pid!),
      async put(path, content) {
        const file = join(directory, `${name}.input`)
        writeFileSync(file, content, { mode: 0o600 })
        await run(`cat >${path}`, file)
      },
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

function commandLine({ name, directory, diskPath, cpuCount, tap }: GuestOptions, port: number): string[] {
  const data = {
    driver: 'raw',
    'node-name': 'data',
    discard: 'unmap',
    'detect-zeroes': 'off',
    cache: { direct: true },
    file: { driver: 'file', filename: diskPath, discard: 'unmap', cache: { direct: true } },
  }
  return [
    ['qemu-system-x86_64', '-machine', 'q35,accel=tcg', '-cpu', 'max', '-smp', String(cpuCount), '-m', `${guestMemoryBytes / 1024}K`],
    ['-name', `${name},debug-threads=on`, '-nodefaults', '-display', 'none', '-serial', `file:${join(directory, `${name}.log`)}`],
    ['-object', 'rng-random,id=rng0,filename=/dev/urandom', '-device', 'virtio-rng-pci,rng=rng0'],
    [
      '-drive',
      `if=none,id=boot,format=raw,snapshot=on,file=${artifacts().debianImage}`,
      '-device',
      'virtio-blk-pci,drive=boot,bootindex=1',
    ],
    ['-blockdev', JSON.stringify(data), '-device', `virtio-blk-pci,drive=data,serial=${diskSerial}`],
    ['-netdev', `user,id=outside,ipv6=off,hostfwd=tcp:127.0.0.1:${port}-:22`, '-device', 'virtio-net-pci,netdev=outside,romfile='],
    ['-netdev', `tap,id=link,ifname=${tap},script=no,downscript=no`, '-device', `virtio-net-pci,netdev=link,romfile=,mac=${linkMac(name)}`],
  ].flat()
}

/** Quiet: the workload stopped, the link configured. */
function prepareScript({ name, linkAddress }: GuestOptions): string {
  return `set -e
    systemctl stop workload.service
    for interface in /sys/class/net/*; do
      [ "$(cat $interface/address)" = ${linkMac(name)} ] || continue
      interface=\${interface##*/}
      ip link set $interface up
      ip addr add ${linkAddress}/24 dev $interface
    done`
}

function linkMac(name: string): string {
  const sum = [...name].reduce((total, letter) => total + letter.charCodeAt(0), 0) & 0xff
  return `52:54:00:be:4c:${sum.toString(16).padStart(2, '0')}`
}

function sshCommand(directory: string, name: string, port: number): string[] {
  const { privateKeyPath, hostKeysPath } = artifacts().guestAccess
  const knownHosts = join(directory, `${name}.known-hosts`)
  const keys = readFileSync(hostKeysPath, 'utf8').trim().split('\n')
  writeFileSync(knownHosts, keys.map((key) => `[127.0.0.1]:${port} ${key}\n`).join(''))
  const options = [`UserKnownHostsFile=${knownHosts}`, 'StrictHostKeyChecking=yes', 'BatchMode=yes', 'ConnectTimeout=10', 'LogLevel=ERROR']
  return ['-i', privateKeyPath, '-p', String(port), ...options.flatMap((option) => ['-o', option]), 'root@127.0.0.1']
}

async function untilUp(run: (script: string) => Promise<string>, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + 180_000
  for (;;) {
    try {
      await run('true')
      return
    } catch (error) {
      if (performance.now() > deadline || signal.aborted) throw error
      await sleep(1000, undefined, { signal })
    }
  }
}

/** From the CPU accounting of QEMU's vCPU threads, so that looking costs the guest nothing. */
function vcpuSeconds(pid: number): number {
  const ticks = readdirSync(`/proc/${pid}/task`)
    .map((thread) => `/proc/${pid}/task/${thread}`)
    .filter((thread) => readFileSync(`${thread}/comm`, 'utf8').startsWith('CPU '))
    .map((thread) => readFileSync(`${thread}/stat`, 'utf8').split(') ')[1]!.split(' '))
    .reduce((sum, fields) => sum + Number(fields[11]) + Number(fields[12]), 0)
  return ticks / 100
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}
