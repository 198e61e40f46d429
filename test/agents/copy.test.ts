/** Two real agents on loop devices: what is copied is compared from outside, block by block, and never taken from the agents' word alone. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { AgentSession } from '../../src/agent-gateway/agent-session.ts'
import { startAgentPair, type AgentPair } from './agent-pair.ts'
import { freePort, startFaultyLink, type FaultyLink } from './faulty-link.ts'

const mebibyte = 1024 * 1024
const options = { timeoutMs: 60_000 }
/** Not a multiple of a block: the last one is short. */
const diskBytes = 48 * mebibyte + 4096 * 3

let pair: AgentPair
let link: FaultyLink
let source: AgentSession
let destination: AgentSession

function write(offset: number, content: Buffer): void {
  const file = openSync(pair.source.path, 'r+')
  writeSync(file, content, 0, content.length, offset)
  fsyncSync(file)
  closeSync(file)
}
function imagesDiffer(): boolean {
  execFileSync('sync', [pair.source.imagePath, pair.destination.imagePath])
  return !readFileSync(pair.source.imagePath).equals(readFileSync(pair.destination.imagePath).subarray(0, diskBytes))
}
async function rootsAreEqual(): Promise<boolean> {
  const [ours, theirs] = await Promise.all([source.request('root', {}, options), destination.request('root', {}, options)])
  return ours.root === theirs.root && ours.blocks === theirs.blocks
}
async function receive(empty: boolean): Promise<void> {
  await destination.request('transfer.connect', { listenPort: link.targetPort, timeoutMs: 5000 }, options)
  await destination.request('receive.start', { disk: pair.destination.name, empty }, options)
}
async function track(): Promise<void> {
  await source.request('transfer.connect', { endpoints: [{ host: '127.0.0.1', port: link.port }], timeoutMs: 10_000 }, options)
  await source.request('tracking.start', { disk: pair.source.name }, options)
}
const full = (round: number) => source.request('round.run', { round, mode: 'FULL' }, options)

beforeEach(async () => {
  pair = await startAgentPair({ source: diskBytes, destination: 64 * mebibyte })
  link = await startFaultyLink(await freePort())
  source = await pair.session('SOURCE')
  destination = await pair.session('DESTINATION')
}, 30_000)
afterEach(async () => {
  await link?.close()
  await pair?.close()
})

describe('a copy', { timeout: 60_000 }, () => {
  test('sends what is there and nothing of what is empty; then only what changed, zeros without their bytes', async () => {
    write(0, randomBytes(5 * mebibyte))
    write(diskBytes - 5000, randomBytes(5000))
    await receive(true)
    await track()
    const first = await full(1)
    expect(imagesDiffer()).toBe(false)
    expect(await rootsAreEqual()).toBe(true)
    expect(first.changedBytes).toBe(5 * mebibyte + 65_536)
    expect(first.verifiedBytes).toBe(first.changedBytes)
    expect(first.bytesSent).toBeLessThan(first.changedBytes * 1.1)
    expect(await full(1)).toEqual(first)

    write(20 * mebibyte, randomBytes(mebibyte))
    write(mebibyte, Buffer.alloc(2 * mebibyte))
    const second = await full(2)
    expect(imagesDiffer()).toBe(false)
    expect(await rootsAreEqual()).toBe(true)
    expect(second.changedBytes).toBe(3 * mebibyte)
    expect(second.bytesSent).toBeLessThan(1.1 * mebibyte)

    const third = await full(3)
    expect(third).toMatchObject({ changedBytes: 0, verifiedBytes: 0, mode: 'FULL' })
    expect(third.bytesSent).toBeLessThan(10_000)
  })

  test("gives the last rounds' results again, and keeps those of no more than that", async () => {
    write(0, randomBytes(mebibyte))
    await receive(true)
    await track()
    const first = await full(1)
    const changed = (round: number) => source.request('round.run', { round, mode: 'CHANGED' }, options)
    for (let round = 2; round <= 16; round++) await changed(round)
    expect(await changed(1)).toEqual(first)
    const last = await changed(17)
    expect(await changed(17)).toEqual(last)
    expect(await changed(1)).toMatchObject({ mode: last.mode, changedBytes: 0 })
  })

  test('onto a disk that holds something else becomes the source all the same', async () => {
    write(3 * mebibyte, randomBytes(4 * mebibyte))
    const file = openSync(pair.destination.path, 'r+')
    writeSync(file, randomBytes(10 * mebibyte), 0, 10 * mebibyte, 0)
    writeSync(file, randomBytes(mebibyte), 0, mebibyte, 40 * mebibyte)
    fsyncSync(file)
    closeSync(file)
    await receive(false)
    await track()
    await full(1)
    expect(imagesDiffer()).toBe(false)
    expect(await rootsAreEqual()).toBe(true)
  })

  test('goes on over a link that is cut again and again, and sends little twice', async () => {
    write(0, randomBytes(30 * mebibyte))
    await receive(true)
    await track()
    link.cutEvery(4 * mebibyte, 5)
    const result = await full(1)
    expect(link.cuts).toBe(5)
    expect(imagesDiffer()).toBe(false)
    expect(await rootsAreEqual()).toBe(true)
    expect(result.changedBytes).toBeGreaterThanOrEqual(30 * mebibyte)
  })

  test('survives bits that flip on the way: TLS notices, and the round goes on', async () => {
    write(0, randomBytes(10 * mebibyte))
    await receive(true)
    await track()
    link.flipBitAfter(3 * mebibyte)
    await full(1)
    expect(link.flips).toBe(1)
    expect(imagesDiffer()).toBe(false)
  })

  test('compares the disks anew when the destination has restarted', async () => {
    write(0, randomBytes(8 * mebibyte))
    await receive(true)
    await track()
    await full(1)
    destination = await pair.restart('DESTINATION')
    write(20 * mebibyte, randomBytes(mebibyte))
    await receive(false)
    const second = await source.request('round.run', { round: 2, mode: 'CHANGED' }, options)
    expect(second).toMatchObject({ mode: 'FULL', changedBytes: mebibyte })
    expect(imagesDiffer()).toBe(false)
    expect(await rootsAreEqual()).toBe(true)
  })

  test('compares the disks anew when the source has restarted, and sends only what differs', async () => {
    write(0, randomBytes(8 * mebibyte))
    await receive(true)
    await track()
    await full(1)
    source = await pair.restart('SOURCE')
    write(20 * mebibyte, randomBytes(mebibyte))
    await track()
    expect(await full(2)).toMatchObject({ mode: 'FULL', changedBytes: mebibyte })
    expect(imagesDiffer()).toBe(false)
  })

  test('stops at a word, with the data path idle, and goes on later', async () => {
    write(0, randomBytes(40 * mebibyte))
    await receive(true)
    await track()
    link.limitBytesPerSecond(8 * mebibyte)
    const running = full(1)
    running.catch(() => {})
    await expect.poll(() => link.bytesForwarded, { timeout: 10_000 }).toBeGreaterThan(mebibyte)
    await source.request('round.stop', {}, options)
    await expect(running).rejects.toMatchObject({ agentCode: 'ROUND_STOPPED', retryable: true })
    link.limitBytesPerSecond(null)
    await full(1)
    expect(imagesDiffer()).toBe(false)
    expect(await rootsAreEqual()).toBe(true)
  })

  test('of a disk that grows meanwhile is none: neither a round nor a freeze goes on, and both sizes are named', async () => {
    await receive(true)
    await track()
    await full(1)
    truncateSync(pair.source.imagePath, 56 * mebibyte)
    execFileSync('losetup', ['--set-capacity', pair.source.path])
    const grown = { agentCode: 'DISK_SIZE_CHANGED', retryable: false, message: expect.stringMatching(`${diskBytes}.*${56 * mebibyte}`) }
    await expect(source.request('freeze', { freezeId: 'f', leaseMs: 1000 }, options)).rejects.toMatchObject(grown)
    await expect(source.request('round.run', { round: 2, mode: 'CHANGED' }, options)).rejects.toMatchObject(grown)
  })

  test('refuses what can not be: a disk that is not there, one that is too small, a round without a disk', async () => {
    await expect(full(1)).rejects.toMatchObject({ agentCode: 'NOT_TRACKING' })
    await expect(source.request('tracking.start', { disk: 'nonesuch' }, options)).rejects.toMatchObject({ agentCode: 'UNKNOWN_DISK' })
    await expect(destination.request('receive.start', { disk: '../vda', empty: true }, options)).rejects.toMatchObject({
      agentCode: 'UNKNOWN_DISK',
    })
    await expect(destination.request('freeze', { freezeId: 'f', leaseMs: 1000 }, options)).rejects.toMatchObject({
      agentCode: 'INVALID_REQUEST',
    })
  })
})
