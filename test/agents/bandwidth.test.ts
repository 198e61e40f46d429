/** Two real agents, and a limit that changes while they copy. Bytes are counted on the wire, by the progress that the source reports. */
import { randomFillSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { AgentSession } from '../../src/agent-gateway/agent-session.ts'
import type { RoundProgress } from '../../src/transfer/control-protocol.ts'
import { startAgentPair, type AgentPair } from './agent-pair.ts'
import { freePort } from './faulty-link.ts'

const mebibyte = 1024 * 1024
const diskBytes = 64 * mebibyte
const options = { timeoutMs: 60_000 }
const seen: { at: number; progress: RoundProgress }[] = []

let pair: AgentPair
let source: AgentSession

beforeEach(async () => {
  pair = await startAgentPair({ source: diskBytes, destination: diskBytes })
  writeFileSync(pair.source.imagePath, randomFillSync(Buffer.alloc(diskBytes)))
  source = await pair.session('SOURCE')
  const destination = await pair.session('DESTINATION')
  const port = await freePort()
  await destination.request('transfer.connect', { listenPort: port, timeoutMs: 5000 }, options)
  await destination.request('receive.start', { disk: pair.destination.name, empty: true }, options)
  await source.request('transfer.connect', { endpoints: [{ host: '127.0.0.1', port }], timeoutMs: 10_000 }, options)
  await source.request('tracking.start', { disk: pair.source.name }, options)
  seen.length = 0
  pair.agents.onProgress('SOURCE', (progress) => seen.push({ at: performance.now(), progress }))
}, 30_000)
afterEach(() => pair?.close())

const limit = (limitBytesPerSecond: number | null) => source.request('bandwidth.set', { limitBytesPerSecond }, options)
const newest = () => seen.at(-1)!.progress

/** Bytes a second on the wire over the next so many reports. */
async function measuredRate(reports: number): Promise<number> {
  const from = seen.length
  await vi.waitFor(() => expect(seen.length).toBeGreaterThan(from + reports), { timeout: 30_000, interval: 50 })
  const [first, last] = [seen[from]!, seen[from + reports]!]
  return ((last.progress.bytesSent - first.progress.bytesSent) * 1000) / (last.at - first.at)
}

test('what goes over the wire follows the limit, also when it changes while the copy runs, and the limit is named as what holds it up', async () => {
  await limit(2 * mebibyte)
  const round = source.request('round.run', { round: 1, mode: 'FULL' }, options)
  await vi.waitFor(() => expect(newest().bytesSent).toBeGreaterThan(mebibyte), { timeout: 30_000 })
  const slow = await measuredRate(6)
  expect(newest().bottleneck).toBe('BANDWIDTH_LIMIT')

  await limit(6 * mebibyte)
  const faster = await measuredRate(6)
  // Wide margins: a busy machine makes it slower, never faster.
  expect(slow / mebibyte).toBeGreaterThan(1.2)
  expect(slow / mebibyte).toBeLessThan(2.2)
  expect(faster / mebibyte).toBeGreaterThan(3)
  expect(faster / mebibyte).toBeLessThan(6.6)

  await limit(null)
  const result = await round
  expect(result.verifiedBytes).toBe(diskBytes)
  expect(result.rateBytesPerSecond).toBeGreaterThan(0)
}, 60_000)
