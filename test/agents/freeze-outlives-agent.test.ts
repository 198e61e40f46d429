/** An agent that froze its guest and then ends: what the control plane was promised last holds, and the guest goes on when that lapses. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { AgentSession } from '../../src/agent-gateway/agent-session.ts'
import { startAgentPair, type AgentPair } from './agent-pair.ts'

const diskBytes = 32 * 1024 * 1024
const options = { timeoutMs: 20_000 }
/** Longer than all that is looked at while it holds. */
const lease = { freezeId: 'f', leaseMs: 12_000 }

let pair: AgentPair
let source: AgentSession
let mountPoint: string

beforeEach(async () => {
  pair = await startAgentPair({ source: diskBytes, destination: diskBytes })
  execFileSync('mkfs.ext4', ['-q', pair.source.path])
  mountPoint = join(pair.directory, 'mnt')
  mkdirSync(mountPoint)
  execFileSync('mount', [pair.source.path, mountPoint])
  source = await pair.session('SOURCE')
  await source.request('tracking.start', { disk: pair.source.name }, options)
}, 30_000)
afterEach(async () => {
  execFileSync('sh', ['-c', 'fsfreeze --unfreeze "$1" 2>/dev/null; umount "$1"', 'sh', mountPoint])
  await pair.close()
})

test.each(['SIGKILL', 'SIGTERM'] as const)(
  'after %s nothing is written before the lease that was renewed last lapses, and all is then',
  { timeout: 60_000 },
  async (signal) => {
    await source.request('freeze', lease, options)
    expect(await source.request('freeze.renew', lease, options)).toEqual({ held: true })
    const agent = pair.processes.SOURCE
    agent.kill(signal)
    await once(agent, 'exit')

    const application = spawn('sh', ['-c', 'echo acknowledged >"$1" && sync "$1"', 'sh', join(mountPoint, 'record')])
    const acknowledged = once(application, 'exit')
    const soon = new Promise<'still waiting'>((resolve) => setTimeout(resolve, 1_000, 'still waiting'))
    expect(await Promise.race([acknowledged, soon])).toBe('still waiting')
    expect(await acknowledged).toEqual([0, null])
    expect(readFileSync(join(pair.directory, 'SOURCE/freeze-0/void'), 'utf8')).toBe('the lease lapsed\n')
  },
)
