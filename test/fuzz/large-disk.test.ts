/** Blocks that go all over a disk of the destination whose leaves it can't keep all of. */
import * as fc from 'fast-check'
import { describe, expect } from 'vitest'
import { createReceiver } from '../../src/agents/migration/receiver.ts'
import { serveSource } from '../../src/agents/migration/receiving-conversation.ts'
import { blockDigest } from '../../src/transfer/block-digest.ts'
import { blockBytes } from '../../src/transfer/block-grain.ts'
import { encodeExtentHead, encodeJson, frameTypes } from '../../src/transfer/data-messages.ts'
import { subtreeBlocks } from '../../src/transfer/hash-tree.ts'
import { fuzz } from './support/fuzz.ts'
import { answered, channelInMemory, diskInMemory, frame, hangUp } from './support/transfer-in-memory.ts'

describe('a large disk', () => {
  // What 16 MiB of leaves have room for, and some more: those that were written first are read again when they are written to.
  const subtrees = 2_048 + 16
  const data = Buffer.alloc(blockBytes, 7)
  const extentAt = (first: number) => Buffer.concat([encodeExtentHead({ first, count: 1, codec: 'RAW', digests: blockDigest(data) }), data])
  const cold = fc.shuffledSubarray(
    Array.from({ length: 16 }, (_, subtree) => subtree),
    { minLength: 8 },
  )
  fuzz(
    'takes many blocks at once where leaves were dropped',
    cold,
    async (places) => {
      const bytes = subtrees * subtreeBlocks * blockBytes
      const receiver = await createReceiver(diskInMemory().device, bytes, true, new AbortController().signal)
      for (let subtree = 0; subtree < subtrees; subtree++)
        expect(await receiver.receiveExtent(frame(frameTypes.extent, 0, extentAt(subtree * subtreeBlocks)))).toBe(true)
      const channel = channelInMemory()
      const served = serveSource(channel, { receiverId: 'r', openReceiver: async () => receiver })
      channel.receive(frame(frameTypes.open, 1, encodeJson({ diskBytes: bytes })))
      await answered(channel, 1)
      for (const place of places) channel.receive(frame(frameTypes.extent, 2 + place, extentAt(place * subtreeBlocks + 1)))
      for (const place of places) expect((await answered(channel, 2 + place, 1_000))?.type).toBe(frameTypes.verified)
      channel.close(hangUp)
      await served
    },
    1,
  )
})
