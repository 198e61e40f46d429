/** A libvirt whose daemon, and whose host, can be killed and come back, with everything that a disk would keep. */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { open, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { privateLibvirtScript } from '../../../src/cli/private-site/private-libvirt-script.ts'
import { startPrivateLibvirt } from '../../../src/cli/private-site/start-private-libvirt.ts'

export interface MortalLibvirt {
  uri: string
  virsh(...args: string[]): Promise<string>
  /** kill -9 of libvirtd, which is started again as a service manager would; its VMs run on. */
  killDaemon(): Promise<void>
  /** Everything that runs ends at once, /run is lost, and the host boots. */
  losePower(): Promise<void>
  /** Its first half: the host is off. */
  cutPower(): Promise<void>
  /** Its second half: the host boots. */
  restorePower(): Promise<void>
  stop(): Promise<void>
}

/** Below `directory`, which is the caller's to delete, with a pool and a network named `default`. */
export async function startMortalLibvirt(directory: string): Promise<MortalLibvirt> {
  // The first start makes pool and network.
  const { uri, stop } = await startPrivateLibvirt({ directory })
  await stop()
  const virsh = async (...args: string[]) => {
    const { stdout } = await promisify(execFile)('virsh', ['--quiet', '--connect', uri, ...args], {
      env: { ...process.env, LC_ALL: 'C' },
      timeout: 60_000,
    })
    return stdout.trim()
  }
  const answers = async () => {
    for (let attempt = 1; ; attempt++)
      try {
        return await virsh('version')
      } catch (error) {
        if (attempt === 300) throw error
        await pause(100)
      }
  }
  const daemonPid = async () => {
    const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
    const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))
    return Number(pids.find((_, index) => lines[index]?.startsWith(`libvirtd\0--config\0${directory}/`)))
  }
  let host: ChildProcess
  const boot = async () => {
    await rm(join(directory, 'run'), { recursive: true, force: true })
    host = await spawnHost(directory)
    await answers()
    // The pool is active by itself: its directory is there.
    await virsh('net-start', 'default')
  }
  const cutPower = async () => {
    const bridges = await bridgesHere()
    await endHost(host)
    // Bridges belong to the namespace, and would not outlive a real host.
    for (const bridge of bridges) await promisify(execFile)('ip', ['link', 'delete', bridge]).catch(() => undefined)
  }
  const bridgesHere = async () => {
    const names = (await virsh('net-list', '--name')).split('\n').filter(Boolean)
    const definitions = await Promise.all(names.map((name) => virsh('net-dumpxml', name)))
    return definitions.flatMap((xml) => /bridge name='([^']+)'/.exec(xml)?.[1] ?? [])
  }
  await boot()
  return {
    uri,
    virsh,
    async killDaemon() {
      process.kill(await daemonPid(), 'SIGKILL')
      await answers()
    },
    cutPower,
    restorePower: boot,
    async losePower() {
      await cutPower()
      await boot()
    },
    async stop() {
      await virsh('net-destroy', 'default').catch(() => undefined)
      await endHost(host)
    },
  }
}

/** The script of a private libvirt, with a libvirtd that is started again whenever it dies. */
async function spawnHost(directory: string): Promise<ChildProcess> {
  const script = privateLibvirtScript.replace(/^libvirtd (.*) 3<&- &$/m, '(while :; do libvirtd $1 || true; done) 3<&- &')
  if (script === privateLibvirtScript) throw new Error('The script of a private libvirt is not as this test expects it.')
  const log = await open(join(directory, 'libvirtd.log'), 'a')
  try {
    const child = spawn(
      'unshare',
      ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--', 'sh', '-c', script, 'sh', directory],
      {
        stdio: ['pipe', log.fd, log.fd],
        env: { ...process.env, LC_ALL: 'C' },
      },
    )
    await once(child, 'spawn')
    return child
  } finally {
    await log.close()
  }
}

async function endHost(host: ChildProcess): Promise<void> {
  if (host.exitCode !== null || host.signalCode !== null) return
  const exited = once(host, 'exit')
  host.stdin?.end()
  await exited
}
