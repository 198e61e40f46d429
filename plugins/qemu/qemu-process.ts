/**
 * QEMU processes, found and ended by identity. A process is a VM's when it runs in that VM's directory, by whatever path that is reached now, or when its arguments name
 * that VM's pid file; a pid is used only together with the start time that the kernel gives, so a reused pid is never taken for a VM. QEMU holds a lock on the pid file,
 * which keeps a second one out.
 */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { queryStatus, type QmpSession, withQmp } from './qmp.ts'
import { atSite, stateDirectoryOf } from './state-directory.ts'

export interface QemuProcess {
  pid: number
  /** Clock ticks since boot, from /proc/<pid>/stat. */
  startTicks: string
}

const pollMs = 25
/** PF_KTHREAD of Linux. */
const kernelThreadFlag = 0x00200000

export const pidFile = (directory: string) => join(directory, 'qemu.pid')

/** The VM's process, or null when it is known that there is none. @throws ProviderError UNREACHABLE where the state directory is gone. */
export async function findProcess(directory: string): Promise<QemuProcess | null> {
  return processOf(directory, await findProcesses())
}

/** The VM's process among those found, or one that is just ending: until it has let go of its files, the VM is not off. */
export async function processOf(directory: string, found: Map<string, QemuProcess>): Promise<QemuProcess | null> {
  const place = await atSite(stateDirectoryOf(directory), () => placeOf(directory)).catch((error: unknown) => {
    if (isMissing(error)) return null
    throw error
  })
  return (place === null ? undefined : found.get(place)) ?? found.get(pidFile(directory)) ?? (await findEnding(directory))
}

/** All QEMU processes with a pid file, by the place where they run and by the path of that file. One walk of /proc. */
export async function findProcesses(): Promise<Map<string, QemuProcess>> {
  const found = new Map<string, QemuProcess>()
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
  await Promise.all(
    pids.map(async (pid) => {
      const words = (await readProcFile(`/proc/${pid}/cmdline`))?.split('\0') ?? []
      const path = words[words.indexOf('-pidfile') + 1]
      if (!words.includes('-pidfile') || path === undefined) return
      // Another account's place may not be looked at, and a lost file system has none: then the path alone tells.
      const place = await placeOf(`/proc/${pid}/cwd`).catch(() => null)
      const stat = await readStat(pid)
      if (stat) for (const key of [place, path]) if (key !== null) found.set(key, { pid, startTicks: stat.startTicks })
    }),
  )
  return found
}

/** The same for all paths of one directory. */
async function placeOf(directory: string): Promise<string> {
  const { dev, ino } = await stat(directory, { bigint: true })
  return `${dev}:${ino}`
}

/** A process that ends loses its arguments before its files, so here its pid file tells; that is unlinked by QEMU, but not when it was killed. */
async function findEnding(directory: string): Promise<QemuProcess | null> {
  const pid = Number(await readProcFile(pidFile(directory)))
  if (!Number.isSafeInteger(pid) || pid <= 0 || (await readProcFile(`/proc/${pid}/cmdline`)) !== '') return null
  const stat = await readStat(pid)
  return stat && !stat.kernelThread ? { pid, startTicks: stat.startTicks } : null
}

/** False once the process is gone with all its threads, its pid reused, or only its exit status left. */
export async function isAlive(process: QemuProcess): Promise<boolean> {
  return (await readStat(process.pid))?.startTicks === process.startTicks
}

/** A session on the socket through which changes go. Call it under the VM's lock. */
export function control<Result>(
  process: QemuProcess,
  signal: AbortSignal | undefined,
  work: (session: QmpSession) => Promise<Result>,
): Promise<Result> {
  return withQmp(socketPath(process, 'qmp.sock'), { signal }, work)
}

/** What QEMU says of the vCPUs. Throws UNREACHABLE after `timeoutMs` without an answer. */
export async function askStatus(
  process: QemuProcess,
  signal: AbortSignal | undefined,
  timeoutMs = 3_000,
): Promise<{ running: boolean; status: string }> {
  return withQmp(socketPath(process, 'status.sock'), { signal, answerTimeoutMs: timeoutMs }, queryStatus)
}

/** Ends the process: asks QEMU to quit, which flushes its disks, and kills it when it doesn't within 5 s. */
export async function endProcess(directory: string, signal: AbortSignal | undefined): Promise<void> {
  const process = await findProcess(directory)
  if (!process) return
  await withQmp(socketPath(process, 'qmp.sock'), { signal, answerTimeoutMs: 3_000 }, (session) => session.execute('quit')).catch(
    (error: unknown) => {
      // Only a cancelled call stops here; whatever else QEMU failed at, it is killed below.
      if (signal?.aborted) throw error
    },
  )
  if (await isGoneWithin(process, 5_000, signal)) return
  if (await isAlive(process)) globalThis.process.kill(process.pid, 'SIGKILL')
  if (await isGoneWithin(process, 10_000, signal)) return
  throw new ProviderError('TIMED_OUT', `The QEMU process ${process.pid} did not end within 10 s of being killed.`, {
    retryable: true,
    remedy: 'It hangs in the kernel, most likely on its storage; repair that and call again.',
  })
}

/** Waits until the process is gone; false when it isn't in time. */
export async function isGoneWithin(process: QemuProcess, timeoutMs: number, signal: AbortSignal | undefined): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  while (await isAlive(process)) {
    if (performance.now() > deadline) return false
    await sleep(pollMs, undefined, { signal })
  }
  return true
}

/** QEMU runs in the VM's directory. By way of /proc the socket's path is short, whatever the directory's, and surely that process's. */
function socketPath(process: QemuProcess, name: 'qmp.sock' | 'status.sock'): string {
  return `/proc/${process.pid}/cwd/${name}`
}

/** Null when there is no such process, or nothing of it but its exit status. */
export async function readStat(pid: number): Promise<{ startTicks: string; kernelThread: boolean } | null> {
  const stat = await readProcFile(`/proc/${pid}/stat`)
  if (stat === null) return null
  // The second field, the name in parentheses, may hold spaces: count from its end. State is field 3, flags 9, start time 22.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  // The first thread may have ended while another one still waits for the disk.
  if (fields[0] === 'X' || (fields[0] === 'Z' && (await threadCount(pid)) <= 1)) return null
  return { startTicks: fields[19] ?? '', kernelThread: (Number(fields[6]) & kernelThreadFlag) !== 0 }
}

async function threadCount(pid: number): Promise<number> {
  try {
    return (await readdir(`/proc/${pid}/task`)).length
  } catch (error) {
    if (isMissing(error)) return 0
    throw error
  }
}

async function readProcFile(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ESRCH'
}
