import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readlinkSync } from 'node:fs'
import { expect, test } from 'vitest'
import { processesOfNetwork } from './processes-of-network.ts'

test('a process is found by the network namespace that it is in, and no other is', async () => {
  const child = spawn('unshare', ['--map-root-user', '--net', 'sh', '-c', 'echo in; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit')
  try {
    await once(child.stdout, 'data')
    const network = readlinkSync(`/proc/${child.pid}/ns/net`)
    await expect.poll(() => processesOfNetwork(network)).toEqual([{ pid: child.pid, name: 'sleep' }])
    child.kill('SIGKILL')
    await ended
    expect(processesOfNetwork(network)).toEqual([])
  } finally {
    child.kill('SIGKILL')
  }
})
