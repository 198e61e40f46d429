/** Starts QEMU for a VM, unless it runs. The process has a session of its own and files for its output, and outlives this one. */
import { spawn } from 'node:child_process'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { commandLine } from './command-line.ts'
import { boundConsole } from './console.ts'
import { requireUnarmed } from './fencing.ts'
import { pickForwards } from './forward-ports.ts'
import type { MachineChange } from './machine-store.ts'
import { askStatus, findProcess, type QemuProcess } from './qemu-process.ts'
import type { Site } from './site.ts'

const readyTimeoutMs = 60_000
const portAttempts = 5

/** The process, answering on its sockets. Takes other host ports for the forwards where the saved ones are in use by now. */
export async function launch(site: Site, change: MachineChange, signal: AbortSignal | undefined): Promise<QemuProcess> {
  // A process is there when an interrupted call had started it.
  if (await findProcess(change.directory)) {
    const running = await untilReady(change.directory, () => true, signal)
    if (running) return running
  }
  requireUnarmed(change.machine)
  await boundConsole(site, change.machine.vmId, signal)
  for (let attempt = 1; ; attempt++) {
    const { process, complaint } = await startOnce(site, change, signal)
    if (process) return process
    if (!complaint.includes('host forwarding') || attempt === portAttempts) throw didNotStart(change.machine.vmId, complaint)
    await pickOtherPorts(change, site.host.forwardAddress)
  }
}

export async function pickOtherPorts(change: MachineChange, forwardAddress: string): Promise<void> {
  const guestPorts = change.machine.forwards.map(({ guestPort }) => guestPort)
  await change.save({ forwards: await pickForwards(forwardAddress, guestPorts) })
}

async function startOnce({ options, host }: Site, change: MachineChange, signal: AbortSignal | undefined) {
  signal?.throwIfAborted()
  const logPath = join(change.directory, 'qemu.log')
  const log = await open(logPath, 'a', 0o600)
  try {
    const { size } = await log.stat()
    const child = spawn(options.qemuBinary, commandLine(change.directory, change.machine, host), {
      cwd: change.directory,
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
      // None of our environment, which may hold credentials.
      env: { PATH: process.env['PATH'], LC_ALL: 'C' },
    })
    let ended = false
    let failure = ''
    child.once('exit', () => (ended = true))
    child.once('error', (error) => {
      ended = true
      failure = error.message
    })
    child.unref()
    const ready = await untilReady(change.directory, () => ended, signal)
    return { process: ready, complaint: ready ? '' : failure || (await readFile(logPath)).subarray(size).toString() }
  } finally {
    await log.close()
  }
}

/** Null when there is no process and none will come. Ours may have ended because one that a killed call had started holds the pid file: then that one counts. */
async function untilReady(directory: string, ended: () => boolean, signal: AbortSignal | undefined): Promise<QemuProcess | null> {
  const deadline = performance.now() + readyTimeoutMs
  for (;;) {
    const noneWillCome = ended()
    const process = await findProcess(directory)
    if (!process && noneWillCome) return null
    try {
      if (process) {
        await askStatus(process, signal)
        return process
      }
    } catch (error) {
      if (signal?.aborted || performance.now() > deadline) throw error
    }
    await sleep(25, undefined, { signal })
  }
}

function didNotStart(vmId: string, complaint: string): ProviderError {
  const said = complaint.trim().split('\n').slice(-3).join(' / ').slice(0, 600)
  return new ProviderError('INTERNAL', `QEMU did not start for the virtual machine ${vmId}: ${said || 'it ended without a word'}.`, {
    retryable: true,
    remedy:
      "Set the cloud's qemuBinary option where QEMU is not installed as qemu-system-x86_64; otherwise see qemu.log in the virtual machine's directory. Its disks are as they were.",
  })
}
