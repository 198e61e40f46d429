import { readdir, readFile } from 'node:fs/promises'
import type { ControlPlaneProcess } from '../../src/cli/control-plane-process.ts'

/** `kill -9` of the control plane's process, and its end waited for. */
export async function killControlPlane(controlPlane: ControlPlaneProcess): Promise<void> {
  const child = controlPlane.process
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((done) => child.once('exit', done))
  child.kill('SIGKILL')
  await ended
}

/** `kill -9` of the embedded engine below a control plane; the control plane starts another one. @returns how many processes were killed. */
export async function killEngine(controlPlane: ControlPlaneProcess): Promise<number> {
  let killed = 0
  for (const pid of await descendants(controlPlane.process.pid!)) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (!command.split('\0')[0]?.endsWith('restate-server')) continue
    if (signalProcess(pid, 'SIGKILL')) killed++
  }
  return killed
}

/** @returns whether it was there: what was listed may have ended since. */
export function signalProcess(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
    throw error
  }
}

/** Process ids of children, their children, and so on. */
async function descendants(root: number): Promise<number[]> {
  const parents = new Map<number, number>()
  for (const entry of await readdir('/proc')) {
    const stat = /^\d+$/.test(entry) ? await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => null) : null
    // The name in parentheses may hold anything; the parent's id is the second field after it.
    if (stat !== null) parents.set(Number(entry), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
  }
  const isBelow = (pid: number): boolean => {
    const parent = parents.get(pid)
    return parent !== undefined && parent > 0 && (parent === root || isBelow(parent))
  }
  return [...parents.keys()].filter(isBelow)
}
