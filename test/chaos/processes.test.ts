import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readlinkSync } from 'node:fs'
import { expect, test } from 'vitest'
import { processesOfControlPlanes } from './processes.ts'

const pluginProcess = '/somewhere/src/plugin-sdk/plugin-process.ts'
const body = 'console.log(process.pid); setInterval(() => {}, 1_000)'

/** @returns the process id of a Node that names a module: below a shell, or this process's own. */
async function run(module: string, below: 'A_SHELL' | 'US'): Promise<number> {
  const command = [process.execPath, '-e', body, module]
  const [program, ...words] = below === 'US' ? command : ['sh', '-c', '"$@"; true', 'sh', ...command]
  const child = spawn(program!, words, { stdio: ['ignore', 'pipe', 'ignore'] })
  const [said] = (await once(child.stdout, 'data')) as [Buffer]
  return Number(said.toString())
}

test('a plugin of a control plane is found; one of our own is not, nor whatever else runs here', async () => {
  const [plugin, own, other] = await Promise.all([run(pluginProcess, 'A_SHELL'), run(pluginProcess, 'US'), run('/else.ts', 'A_SHELL')])
  try {
    const pids = async (network: string) => (await processesOfControlPlanes(network)).map(({ pid }) => pid)
    const here = await pids(readlinkSync('/proc/self/ns/net'))
    expect(here).toContain(plugin)
    expect(here).not.toContain(own)
    expect(here).not.toContain(other)
    expect(await pids('net:[0]')).toEqual([])
  } finally {
    for (const pid of [plugin, own, other]) process.kill(pid, 'SIGKILL')
  }
})
