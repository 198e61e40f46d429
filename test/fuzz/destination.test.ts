/** What a source sends the destination's agent, which writes it to a disk: frames in any order, valid or not. */
import * as fc from 'fast-check'
import { describe, expect } from 'vitest'
import { leavesOf } from '../../src/agents/migration/block-digests.ts'
import type { DiskDevice } from '../../src/agents/migration/disk-device.ts'
import { createReceiver, type Receiver } from '../../src/agents/migration/receiver.ts'
import { serveSource } from '../../src/agents/migration/receiving-conversation.ts'
import { blockDigest, digestBytes } from '../../src/transfer/block-digest.ts'
import { blockBytes, extentBytes } from '../../src/transfer/block-grain.ts'
import {
  decodeExtent,
  encodeExtentHead,
  encodeJson,
  encodeSubtree,
  encodeSubtreeRange,
  encodeZeros,
  frameTypes,
} from '../../src/transfer/data-messages.ts'
import { maxPayloadBytes, type Frame } from '../../src/transfer/frame.ts'
import { TransferError } from '../../src/transfer/transfer-error.ts'
import { bytesLike, fuzz } from './support/fuzz.ts'
import { answered, channelInMemory, diskInMemory, frame, hangUp } from './support/transfer-in-memory.ts'

const diskBytes = 5 * blockBytes + 512
const blocks = 6

/** What a disk holds where an extent belongs. */
async function digestsOnDisk(device: DiskDevice, given: Frame): Promise<Buffer> {
  const { first, count } = decodeExtent(given).extent
  const held = Buffer.alloc(extentBytes({ diskBytes, blockCount: blocks }, first, count))
  await device.read(held, first)
  return Buffer.from(leavesOf(held))
}

const leafOf = (leaves: Buffer, at: number) => leaves.subarray(at * digestBytes, (at + 1) * digestBytes)

/** Mostly on the disk, sometimes at its end or far off. */
const block = fc.oneof({ weight: 30, arbitrary: fc.nat(blocks) }, { weight: 1, arbitrary: fc.constantFrom(2 ** 32, 2 ** 47, 2 ** 48 - 1) })
const content = (blockNumber: number, fill: number) => Buffer.alloc(blockNumber === blocks - 1 ? 512 : blockBytes, fill)
const extent = fc.tuple(block, fc.integer({ min: 0, max: 17 }), fc.nat(255), fc.nat(9)).map(([first, count, fill, dice]) => {
  // One block, with its true digest, but for a few.
  const data = content(first, fill)
  const few = dice === 0 ? count : 1
  const digests = Buffer.concat(Array.from({ length: few }, () => (dice === 1 ? Buffer.alloc(digestBytes, 1) : blockDigest(data))))
  return Buffer.concat([encodeExtentHead({ first, count: few, codec: dice === 2 ? 'ZSTD' : 'RAW', digests }), data])
})
const run = fc.tuple(
  block,
  fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 1, max: 3 }) }, { weight: 1, arbitrary: fc.constantFrom(blocks, 2 ** 32 - 1) }),
)
const payloads: [number, fc.Arbitrary<Buffer>][] = [
  [
    frameTypes.open,
    fc
      .constantFrom(diskBytes, diskBytes, diskBytes, diskBytes, diskBytes, diskBytes, 512, 2 * diskBytes, -512, 0.5, 1e300)
      .map((bytes) => encodeJson({ diskBytes: bytes })),
  ],
  [frameTypes.extent, extent],
  [frameTypes.extent, extent],
  [frameTypes.zeros, run.map(([first, count]) => encodeZeros(first, count))],
  [
    frameTypes.exclude,
    fc
      .tuple(fc.constantFrom(0, 1, 1), run)
      .map(([last, [first, count]]) => Buffer.concat([Buffer.from([last]), encodeZeros(first, count)])),
  ],
  [frameTypes.digestsWanted, fc.tuple(fc.nat(2), fc.nat(2)).map(([first, count]) => encodeSubtreeRange(first, count))],
  [frameTypes.leavesWanted, fc.nat(2).map((subtree) => encodeSubtree(subtree))],
  [frameTypes.barrier, fc.constant(Buffer.alloc(0))],
]
const frames = fc.array(
  fc.constantFrom(...payloads).chain(([type, valid]) =>
    fc.tuple(
      fc.nat(400).map((dice) => (dice > 17 ? type : dice)),
      fc.oneof({ weight: 15, arbitrary: valid }, { weight: 1, arbitrary: bytesLike(valid) }),
    ),
  ),
  { maxLength: 12 },
)

describe('the destination', () => {
  const barrier = Buffer.alloc(0)

  /** `inTurn`: each frame waits for the end of the one before. Otherwise all come at once. */
  async function converse([opens, inTurn, said]: readonly [boolean, boolean, readonly (readonly [number, Buffer])[]]): Promise<void> {
    const disk = diskInMemory()
    const channel = channelInMemory()
    let made: Receiver | null = null
    const openReceiver = async (bytes: number) => {
      if (bytes > diskBytes) throw new TransferError('DISK_TOO_SMALL', 'too small', { retryable: false })
      made ??= await createReceiver(disk.device, bytes, true, new AbortController().signal)
      if (made.geometry.diskBytes === bytes) return made
      throw new TransferError('PROTOCOL', 'another size', { retryable: false })
    }
    const served = serveSource(channel, { receiverId: 'r', openReceiver })
    let sequence = 1
    if (opens) channel.receive(frame(frameTypes.open, sequence, encodeJson({ diskBytes })))
    if (opens) await answered(channel, sequence)
    for (const [type, payload] of said) {
      const given = frame(type, ++sequence, payload)
      channel.receive(given)
      if (!inTurn) continue
      channel.receive(frame(frameTypes.barrier, sequence + 1_000_000, barrier))
      await answered(channel, sequence + 1_000_000)
      const isVerified = channel.sent.some((answer) => answer.sequence === sequence && answer.type === frameTypes.verified)
      if (isVerified && type === frameTypes.extent)
        expect(await digestsOnDisk(disk.device, given)).toEqual(decodeExtent(given).extent.digests)
    }
    channel.receive(frame(frameTypes.barrier, 2_000_000, barrier))
    const last = await answered(channel, 2_000_000)
    // A destination that says why it can't go on ends the connection itself.
    if (last?.type === frameTypes.barrierDone) channel.close(hangUp)
    await served
    expect(await channel.closed).toBeInstanceOf(TransferError)
    for (const { payload } of channel.sent.filter(({ type }) => type === frameTypes.failed)) {
      const { code, message } = JSON.parse(payload.toString()) as { code: string; message: string }
      expect(['PROTOCOL', 'DISK_TOO_SMALL', 'INTERNAL']).toContain(code)
      if (code === 'INTERNAL') expect(message).toContain('is not a positive multiple of 512 bytes')
    }
    const receiver = made as Receiver | null
    expect(disk.furthestByte).toBeLessThanOrEqual(receiver?.geometry.diskBytes ?? 0)
    if (!receiver || !inTurn) return
    const reread = await createReceiver(disk.device, receiver.geometry.diskBytes, false, new AbortController().signal)
    const [known, held] = await Promise.all([receiver.tree.leaves(0), reread.tree.leaves(0)])
    for (let at = 0; at < receiver.geometry.blockCount; at++)
      if (!receiver.excluded.has(at)) expect(leafOf(known, at)).toEqual(leafOf(held, at))
  }
  fuzz(
    'ends with its source, never writes past its disk, and knows what it wrote',
    fc.array(
      fc.tuple(
        fc.integer({ min: 0, max: 9 }).map((dice) => dice > 0),
        fc.boolean(),
        frames,
      ),
      { minLength: 25, maxLength: 25 },
    ),
    async (conversations) => void (await Promise.all(conversations.map(converse))),
    4,
  )

  const maxQueuedBytes = 8 * 1024 * 1024
  fuzz(
    'lets its source feel it when it has enough to do, whatever that is',
    fc.tuple(fc.nat(255), fc.constantFrom(0, 1, 5_000, 1_000_000, maxPayloadBytes)),
    async ([type, payloadBytes]) => {
      const channel = channelInMemory()
      const scan = Promise.withResolvers<Receiver>()
      const served = serveSource(channel, { receiverId: 'r', openReceiver: () => scan.promise })
      channel.receive(frame(frameTypes.open, 1, encodeJson({ diskBytes })))
      const payload = Buffer.alloc(payloadBytes)
      let frames = 0
      for (; !channel.isClosed && !channel.paused && frames < 100_000 && frames * payloadBytes < 8 * maxQueuedBytes; frames++)
        channel.receive(frame(type, 2 + frames, payload))
      // Blocks for a disk that is not open yet end the connection at once.
      expect(channel.isClosed || channel.paused).toBe(true)
      expect((frames - 1) * payloadBytes).toBeLessThanOrEqual(maxQueuedBytes)
      scan.reject(new TransferError('DISK_READ_FAILED', 'no', { retryable: true }))
      channel.close(hangUp)
      await served
      expect(channel.paused).toBe(false)
    },
    3,
  )
})
