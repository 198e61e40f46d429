import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createBlockBitmap } from '../../src/transfer/block-bitmap.ts'

const blockCount = 300
const range = fc
  .tuple(fc.nat(blockCount - 1), fc.nat(blockCount))
  .map(([first, length]) => ({ first, count: Math.min(length, blockCount - first) }))
const changes = fc.array(fc.record({ range, on: fc.boolean() }), { maxLength: 30 })

describe('the bitmap of blocks', () => {
  test('agrees with a set of numbers, whatever is set and cleared', () => {
    fc.assert(
      fc.property(changes, fc.integer({ min: 1, max: 40 }), (steps, maxRun) => {
        const bitmap = createBlockBitmap(blockCount)
        const model = new Set<number>()
        for (const { range, on } of steps) {
          if (on) bitmap.set(range.first, range.count)
          else bitmap.clear(range.first, range.count)
          for (let block = range.first; block < range.first + range.count; block++) {
            if (on) model.add(block)
            else model.delete(block)
          }
        }
        expect(bitmap.count).toBe(model.size)
        const found: number[] = []
        for (let run = bitmap.nextRun(0, maxRun); run; run = bitmap.nextRun(run.first + run.count, maxRun)) {
          expect(run.count).toBeLessThanOrEqual(maxRun)
          for (let block = run.first; block < run.first + run.count; block++) found.push(block)
        }
        expect(found).toEqual([...model].toSorted((a, b) => a - b))
      }),
    )
  })

  test('takes over what another one holds', () => {
    const target = createBlockBitmap(100)
    const other = createBlockBitmap(100)
    target.set(3, 4)
    other.set(5, 50)
    target.takeFrom(other)
    expect([target.count, other.count]).toEqual([52, 0])
  })

  test('refuses blocks that are not on the disk', () => {
    const bitmap = createBlockBitmap(10)
    expect(() => bitmap.set(9, 2)).toThrow(RangeError)
    expect(() => bitmap.set(-1, 1)).toThrow(RangeError)
  })

  test('a whole disk of 4 TiB is discarded in an instant', () => {
    const bitmap = createBlockBitmap(2 ** 26)
    bitmap.set(0, 2 ** 26)
    expect(bitmap.count).toBe(2 ** 26)
  })
})
