import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  decodeDigests,
  decodeExtent,
  decodeJson,
  decodeLeaves,
  decodeSubtree,
  decodeSubtreeRange,
  decodeZeros,
  encodeExtentHead,
  encodeSubtree,
  encodeSubtreeRange,
  encodeZeros,
} from '../../src/transfer/data-messages.ts'
import type { Frame } from '../../src/transfer/frame.ts'
import { TransferError } from '../../src/transfer/transfer-error.ts'

function frameOf(...payload: Buffer[]): Frame {
  return { type: 0, sequence: 0, payload, payloadBytes: payload.reduce((sum, piece) => sum + piece.length, 0) }
}
const block = fc.integer({ min: 0, max: 2 ** 40 })

describe('messages between the agents', () => {
  test('an extent comes back as it was sent, wherever its frame was cut', () => {
    fc.assert(
      fc.property(
        block,
        fc.integer({ min: 1, max: 16 }),
        fc.constantFrom('RAW' as const, 'ZSTD' as const),
        fc.uint8Array({ maxLength: 99 }),
        fc.nat(),
        (first, count, codec, data, at) => {
          const digests = Buffer.alloc(count * 32, 7)
          const payload = Buffer.concat([encodeExtentHead({ first, count, codec, digests }), data])
          const cut = at % payload.length
          const decoded = decodeExtent(frameOf(payload.subarray(0, cut), payload.subarray(cut)))
          expect(decoded.extent).toEqual({ first, count, codec, digests })
          expect(Buffer.concat(decoded.data)).toEqual(Buffer.from(data))
          expect(decoded.dataBytes).toBe(data.length)
        },
      ),
    )
  })

  test('the bytes of an extent are these', () => {
    const head = encodeExtentHead({ first: 0x0102030405, count: 1, codec: 'ZSTD', digests: Buffer.alloc(32, 0xee) })
    expect(head.toString('hex')).toBe(`0001020304050101${'ee'.repeat(32)}`)
  })

  test('zeros and subtrees come back as they were sent', () => {
    fc.assert(
      fc.property(block, fc.integer({ min: 1, max: 0xffff_ffff }), fc.integer({ min: 0, max: 262_143 }), (first, count, subtree) => {
        expect(decodeZeros(frameOf(encodeZeros(first, count)))).toEqual({ first, count })
        expect(decodeSubtree(frameOf(encodeSubtree(subtree)))).toBe(subtree)
        expect(decodeSubtreeRange(frameOf(encodeSubtreeRange(subtree, 1 + (count % 32_768))))).toEqual({
          first: subtree,
          count: 1 + (count % 32_768),
        })
      }),
    )
  })

  test('whatever else comes is a typed error', () => {
    const decoders = [decodeExtent, decodeZeros, decodeSubtree, decodeSubtreeRange, decodeDigests, decodeLeaves, decodeJson]
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.constantFrom(...decoders), (rubbish, decode) => {
        try {
          decode(frameOf(Buffer.from(rubbish)))
        } catch (error) {
          expect(error).toBeInstanceOf(TransferError)
        }
      }),
      { numRuns: 500 },
    )
  })
})
