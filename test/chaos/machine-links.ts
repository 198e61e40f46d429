/** What befalls the cables that machines are plugged in by. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { machinePorts, setPort } from '../support/bridge-ports.ts'
import type { Injected } from './faults.ts'

/** @returns how many were changed: a machine that is just ending takes its port along. @throws what changing one did that is still there; those before it are `undone`. */
export async function changeEach(
  ports: () => Promise<string[]>,
  change: (port: string) => Promise<unknown>,
  undo: () => Promise<unknown> = async () => {},
): Promise<number> {
  let changed = 0
  for (const port of await ports()) {
    try {
      await change(port)
      changed++
    } catch (error) {
      if (!(await ports()).includes(port)) continue
      await undo()
      throw error
    }
  }
  return changed
}

export async function cutLinks(): Promise<Injected> {
  const mend = () => changeEach(machinePorts, (port) => setPort(port, 'up'))
  const cut = await changeEach(machinePorts, (port) => setPort(port, 'down'), mend)
  return cut === 0 ? 'NOTHING_THERE' : mend
}

/** What goes to the machines, that is: the kernels that this runs on need not be able to shape what comes from them, whose answers stall. */
export async function stallLinks(): Promise<Injected> {
  const shaped = ['tbf', 'rate', '8kbit', 'burst', '1600', 'latency', '100ms']
  const mend = () => changeEach(stalledPorts, (port) => tc('qdisc', 'del', 'dev', port, 'root'))
  const stalled = await changeEach(machinePorts, (port) => tc('qdisc', 'add', 'dev', port, 'root', ...shaped), mend)
  return stalled === 0 ? 'NOTHING_THERE' : mend
}

async function stalledPorts(): Promise<string[]> {
  const lines = (await tc('qdisc', 'show')).split('\n')
  return lines.flatMap((line) => /^qdisc tbf .* dev (\S+)/.exec(line)?.[1] ?? [])
}

async function tc(...words: string[]): Promise<string> {
  return (await promisify(execFile)('tc', words)).stdout
}
