/** Processes of parents and children, known by the directory they run in: no other program runs there, and no account but theirs may enter it. */
import { readdir, readFile, readlink } from 'node:fs/promises'
import { ProviderError } from '../../../src/plugin-sdk/index.ts'
import { isAlive, isGoneWithin, type QemuProcess, readStat } from '../qemu-process.ts'

export interface ForkProcesses {
  qemu: QemuProcess | null
  /** QEMU, and what started it and waits for its end. */
  all: QemuProcess[]
}

/** By the directory they run in. One walk of /proc. */
export async function findForkProcesses(qemuBinary: string): Promise<Map<string, ForkProcesses>> {
  const found = new Map<string, ForkProcesses>()
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
  await Promise.all(
    pids.map(async (pid) => {
      const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0')
      if (words[words.indexOf('-name') + 1] !== forkName) return
      const [directory, stat] = await Promise.all([readlink(`/proc/${pid}/cwd`).catch(() => null), readStat(pid)])
      if (directory === null || !stat) return
      const process = { pid, startTicks: stat.startTicks }
      const there = found.get(directory) ?? { qemu: null, all: [] }
      found.set(directory, { qemu: words[0] === qemuBinary ? process : there.qemu, all: [...there.all, process] })
    }),
  )
  return found
}

/** What their arguments call them all. That there is never a second one in a directory, QEMU's lock on its disk sees to. */
export const forkName = 'portolan-fork'

/** Kills them, and returns when they are gone with all that they held. */
export async function endForkProcesses(processes: QemuProcess[], signal: AbortSignal | undefined): Promise<void> {
  for (const process of processes) if (await isAlive(process)) kill(process.pid)
  for (const process of processes)
    if (!(await isGoneWithin(process, 10_000, signal)))
      throw new ProviderError('TIMED_OUT', `The process ${process.pid} did not end within 10 s of being killed.`, {
        retryable: true,
        remedy: 'It hangs in the kernel, most likely on its storage; repair that and call again.',
      })
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** Memory of a process, what it shares counted as its share; 0 where it has just ended. */
export async function proportionalBytes(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '')
  return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) * 1024
}
