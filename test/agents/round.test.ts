/** A round at the source against the destination's own code, over disks in memory, with room for the leaves of four subtrees only: one for each lane of a copy. */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeEach, describe, expect, test } from 'vitest'
import type { DataConnection } from '../../src/agents/migration/data-link.ts'
import type { DiskDevice } from '../../src/agents/migration/disk-device.ts'
import { createReceiver, type Receiver } from '../../src/agents/migration/receiver.ts'
import { serveSource } from '../../src/agents/migration/receiving-conversation.ts'
import { createRoundMeter } from '../../src/agents/migration/round-meter.ts'
import { runCopy } from '../../src/agents/migration/round.ts'
import { createSourceDisk, type SourceDisk } from '../../src/agents/migration/source-disk.ts'
import { blockBytes } from '../../src/transfer/block-grain.ts'
import { frameTypes } from '../../src/transfer/data-messages.ts'
import { subtreeBlocks } from '../../src/transfer/hash-tree.ts'
import { TransferError } from '../../src/transfer/transfer-error.ts'
import { channelPair } from './channel-pair.ts'

const subtrees = 10
const last = subtrees - 1
const allBefore = [...Array(last).keys()]
const diskBytes = subtrees * subtreeBlocks * blockBytes
const fourSubtrees = 4 * 8192

let content: Buffer
let copy: Buffer
let disk: SourceDisk
let receiver: Receiver

function deviceOver(memory: Buffer): DiskDevice {
  return {
    path: 'memory',
    async read(into, block) {
      memory.copy(into, 0, block * blockBytes)
    },
    async write(from, block) {
      from.copy(memory, block * blockBytes)
    },
    async flush() {},
    async close() {},
  }
}
/** The guest writes to the first block of these subtrees. */
function write(...where: number[]): void {
  for (const subtree of where) {
    randomBytes(blockBytes).copy(content, subtree * subtreeBlocks * blockBytes)
    disk.dirty.set(subtree * subtreeBlocks, 1)
  }
}
const extentOf = (type: number) => type === frameTypes.extent

/** One round; over as many connections as `losesAt` has members, the last of which is followed by none. Without any the link holds. */
async function round(...losesAt: ((type: number) => boolean)[]) {
  if (disk.scanFrom > 0) disk.todo.takeFrom(disk.dirty)
  const links = losesAt.length > 0 ? losesAt : [() => false]
  async function connect() {
    const loses = links.shift()
    if (!loses) throw new TransferError('NOT_CONNECTED', 'The destination is gone for long.', { retryable: true })
    const { source, destination } = channelPair(loses)
    void serveSource(destination, { receiverId: 'the same', openReceiver: async () => receiver })
    return { channel: source, agreement: { minor: 1, compression: null }, via: 'DIRECT' as const }
  }
  return runCopy(disk, connect, createRoundMeter(), new AbortController().signal)
}
async function receive(empty: boolean): Promise<void> {
  receiver = await createReceiver(deviceOver(copy), diskBytes, empty, new AbortController().signal)
}
function expectCopied(): void {
  expect(copy.equals(content)).toBe(true)
  expect(disk.tree.root().equals(receiver.tree.root())).toBe(true)
}

beforeEach(async () => {
  content = Buffer.alloc(diskBytes)
  copy = Buffer.alloc(diskBytes)
  disk = createSourceDisk(deviceOver(content), diskBytes, fourSubtrees)
  write(...allBefore, last)
  await receive(true)
})

describe('what was under way when the link was lost is sent before its leaves fall out of memory', () => {
  test('in a round of changes, though many other subtrees changed meanwhile', async () => {
    await round()
    expectCopied()
    write(last)
    await expect(round(extentOf)).rejects.toMatchObject({ code: 'NOT_CONNECTED' })
    write(...allBefore)
    expect(await round()).toMatchObject({ compared: false })
    expectCopied()
  })

  test('in the first copy, of whose first subtree nothing arrived', async () => {
    expect(await round(extentOf, () => false)).toMatchObject({ compared: true })
    expectCopied()
  })
})

test('what changed beyond the place that a comparison has come to waits for it', async () => {
  randomBytes(diskBytes).copy(copy)
  await receive(false)
  let asked = 0
  await expect(round((type) => type === frameTypes.leavesWanted && ++asked > 1)).rejects.toMatchObject({ code: 'NOT_CONNECTED' })
  write(...allBefore.slice(2))
  expect(await round()).toMatchObject({ compared: true })
  expectCopied()
})

test('what changed beyond the place that a first copy has come to is taken once, and is not under way twice', async () => {
  await expect(round(extentOf)).rejects.toMatchObject({ code: 'NOT_CONNECTED' })
  write(last)
  const { read } = disk.device
  const taken: number[] = []
  disk.device.read = (into, block) => {
    taken.push(block)
    return read(into, block)
  }
  await round()
  expect(taken.filter((block) => block === last * subtreeBlocks)).toHaveLength(1)
  expectCopied()
})

test('leaves that are lost all the same fail one round; the next compares the disks anew', async () => {
  await round()
  write(last)
  await expect(round(extentOf)).rejects.toMatchObject({ code: 'NOT_CONNECTED' })
  disk.askLeaves = (subtree) => receiver.tree.leaves(subtree)
  for (const other of allBefore) await disk.tree.leaves(other)
  await expect(round()).rejects.toMatchObject({ code: 'VERIFICATION_FAILED', retryable: true })
  expect(await round()).toMatchObject({ compared: true })
  expectCopied()
})

test('a round that was stopped before it had its connection ends at once, though the destination never answers', async () => {
  const { source } = channelPair()
  const living = { channel: source, agreement: { minor: 1, compression: null }, via: 'DIRECT' as const }
  const stopped = runCopy(disk, async () => living, createRoundMeter(), AbortSignal.abort())
  const waited = sleep(1000, 'still waiting')
  await expect(Promise.race([stopped, waited])).rejects.toMatchObject({ code: 'ROUND_STOPPED' })
})

test('a round that ends on a disk that can not be read leaves nothing of itself on the link: the next one, right after it, hears no answers to it', async () => {
  const read = disk.device.read
  let reads = 0
  disk.device.read = async (into, block) => {
    if (++reads === 8) throw new TransferError('DISK_READ_FAILED', 'The disk has a bad sector.', { retryable: true })
    return read(into, block)
  }
  const links: Promise<void>[] = []
  let living: DataConnection | null = null
  async function connect(): Promise<DataConnection> {
    if (living) return living
    await Promise.all(links)
    const { source, destination } = channelPair()
    links.push(serveSource(destination, { receiverId: 'the same', openReceiver: async () => receiver }))
    void source.closed.then(() => (living = null))
    return (living = { channel: source, agreement: { minor: 1, compression: null }, via: 'DIRECT' })
  }
  const next = () => runCopy(disk, connect, createRoundMeter(), new AbortController().signal)
  await expect(next()).rejects.toMatchObject({ code: 'DISK_READ_FAILED' })
  await next()
  expectCopied()
})
