import { expect, test } from 'vitest'
import { createBlockBitmap } from '../../src/transfer/block-bitmap.ts'
import { decodeExclusion, encodeExclusion, rootWithExclusion, runsIn, runsOutside } from '../../src/transfer/exclusion-messages.ts'

const bitmap = (...runs: [number, number][]) => {
  const blocks = createBlockBitmap(1000)
  for (const [first, count] of runs) blocks.set(first, count)
  return blocks
}
const frame = (payload: Buffer) => ({ type: 16, sequence: 1, payload: [payload], payloadBytes: payload.length })

test('a set of blocks is the same on the other side, in one piece or in many', () => {
  const blocks = bitmap([3, 2], [64, 100], [999, 1])
  for (const runsAPiece of [1, 2, 100]) {
    const pieces = encodeExclusion(blocks, runsAPiece)
    let after = 0
    const runs = pieces.flatMap((piece, index) => {
      const decoded = decodeExclusion(frame(piece), after)
      expect(decoded.last).toBe(index === pieces.length - 1)
      after = decoded.runs.at(-1)!.first + decoded.runs.at(-1)!.count
      return decoded.runs
    })
    expect(runs).toEqual([...runsIn(blocks)])
  }
  expect(decodeExclusion(frame(encodeExclusion(bitmap())[0]!), 0)).toEqual({ runs: [], last: true })
  expect(encodeExclusion(bitmap([3, 2]))[0]!.toString('hex')).toBe('0100000000000300000002')
})

test('what is out of order, empty or cut off is refused', () => {
  const [piece] = encodeExclusion(bitmap([3, 2]))
  expect(() => decodeExclusion(frame(piece!), 4)).toThrow(/after block 4/)
  expect(() => decodeExclusion(frame(piece!.subarray(0, 10)), 0)).toThrow(/10 bytes/)
  expect(() => decodeExclusion(frame(Buffer.alloc(0)), 0)).toThrow(/0 bytes/)
  expect(() => decodeExclusion(frame(Buffer.alloc(11)), 0)).toThrow(/a run of 0 blocks/)
})

test('blocks of one set that are not in another', () => {
  const outside = (ours: ReturnType<typeof bitmap>, theirs: ReturnType<typeof bitmap>) =>
    [...runsOutside(ours, theirs)].map(({ first, count }) => [first, count])
  expect(outside(bitmap([10, 20]), bitmap([0, 12], [15, 1], [29, 5]))).toEqual([
    [12, 3],
    [16, 13],
  ])
  expect(outside(bitmap([10, 20]), bitmap())).toEqual([[10, 20]])
  expect(outside(bitmap([10, 2], [20, 2]), bitmap([0, 100]))).toEqual([])
})

test('equal roots mean that the same blocks were left out', () => {
  const root = Buffer.alloc(32, 7)
  expect(rootWithExclusion(root, bitmap())).toEqual(root)
  expect(rootWithExclusion(root, bitmap([1, 1]))).not.toEqual(rootWithExclusion(root, bitmap([2, 1])))
})
