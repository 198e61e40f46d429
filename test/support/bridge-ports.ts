import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** Every network interface of this machine. In the tests' private network that is: loopback, bridges, and what virtual machines are plugged in by. */
export async function networkInterfaces(): Promise<string[]> {
  // sysfs shows the network namespace that it was mounted in, which may be another one.
  const { stdout } = await promisify(execFile)('ip', ['-o', 'link', 'show'])
  return stdout
    .split('\n')
    .flatMap((line) => /^\d+: ([^:@]+)/.exec(line)?.[1] ?? [])
    .toSorted()
}

/** The cables of all virtual machines that are on bridges. */
export async function machinePorts(): Promise<string[]> {
  const { stdout } = await promisify(execFile)('ip', ['-o', 'link', 'show', 'type', 'tun'])
  return stdout.split('\n').flatMap((line) => /^\d+: ([^:@]+).* master /.exec(line)?.[1] ?? [])
}

/** Pulls, or plugs in again, the cables of all virtual machines that are on bridges. */
export async function setBridgePorts(state: 'up' | 'down'): Promise<void> {
  const ports = await machinePorts()
  if (ports.length === 0) throw new Error('No virtual machine is plugged into a bridge here.')
  for (const port of ports) await setPort(port, state)
}

export async function setPort(port: string, state: 'up' | 'down'): Promise<void> {
  await promisify(execFile)('ip', ['link', 'set', port, state])
}
