/** What a freeze does not hold off: here a process that writes to the disk itself, past its file system. */
import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { AgentSession } from '../../src/agent-gateway/agent-session.ts'
import { startAgentPair, type AgentPair } from './agent-pair.ts'
import { freePort } from './faulty-link.ts'

const mebibyte = 1024 * 1024
const options = { timeoutMs: 20_000 }
const lease = { freezeId: 'f', leaseMs: 15_000 }

let pair: AgentPair
let source: AgentSession
let destination: AgentSession
let mountPoint: string

function writePastTheFileSystem(): void {
  execFileSync('dd', ['if=/dev/urandom', `of=${pair.source.path}`, 'bs=64k', 'count=1', 'seek=400', 'oflag=direct', 'conv=notrunc'], {
    stdio: 'ignore',
  })
}
const renewed = () => source.request('freeze.renew', lease, options)

beforeEach(async () => {
  pair = await startAgentPair({ source: 32 * mebibyte, destination: 64 * mebibyte })
  mountPoint = join(pair.directory, 'mnt')
  mkdirSync(mountPoint)
  execFileSync('mkfs.ext4', ['-q', pair.source.path])
  execFileSync('mount', [pair.source.path, mountPoint])
  source = await pair.session('SOURCE')
  destination = await pair.session('DESTINATION')
  const port = await freePort()
  await destination.request('receive.start', { disk: pair.destination.name, empty: true }, options)
  await destination.request('transfer.connect', { listenPort: port, timeoutMs: 5000 }, options)
  await source.request('transfer.connect', { endpoints: [{ host: '127.0.0.1', port }], timeoutMs: 5000 }, options)
  await source.request('tracking.start', { disk: pair.source.name }, options)
  await source.request('round.run', { round: 1, mode: 'FULL' }, options)
}, 30_000)
afterEach(async () => {
  execFileSync('sh', ['-c', 'fsfreeze --unfreeze "$1" 2>/dev/null; umount "$1"', 'sh', mountPoint])
  await pair.close()
})

describe('a freeze past which somebody writes', { timeout: 60_000 }, () => {
  test('holds as long as a round still takes that along', async () => {
    await source.request('freeze', lease, options)
    writePastTheFileSystem()
    expect(await renewed()).toEqual({ held: true })
    expect(await source.request('round.run', { round: 2, mode: 'CHANGED' }, options)).toMatchObject({ pendingBytes: 0 })
    expect(await renewed()).toEqual({ held: true })
  })

  test('is not held any more once a round under it had left nothing', async () => {
    await source.request('freeze', lease, options)
    expect(await source.request('round.run', { round: 2, mode: 'CHANGED' }, options)).toMatchObject({ pendingBytes: 0 })
    writePastTheFileSystem()
    expect(await renewed()).toEqual({ held: false })
  })
})
