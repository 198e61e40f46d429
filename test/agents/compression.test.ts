import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { createCompression } from '../../src/agents/migration/compression.ts'
import { createRoundMeter } from '../../src/agents/migration/round-meter.ts'

const mebibyte = 1024 * 1024
const text = Buffer.alloc(mebibyte, 'many words, many times over. ')

/** Copies through the compression, where each way has a speed of its own in MiB/s, and counts how the extents went. */
async function copyWith(speeds: { RAW: number; ZSTD: number }, extents: number, data = text): Promise<{ RAW: number; ZSTD: number }> {
  let clock = 0
  const compression = createCompression(true, () => clock)
  const went = { RAW: 0, ZSTD: 0 }
  for (let extent = 0; extent < extents; extent++) {
    const { codec } = await compression.pack(data, createRoundMeter())
    went[codec]++
    clock += 1000 / speeds[codec]
    compression.arrived(mebibyte)
  }
  return went
}

describe('compression', () => {
  test('is used where it moves more of the disk a second', async () => {
    const { RAW, ZSTD } = await copyWith({ RAW: 10, ZSTD: 18 }, 300)
    expect(ZSTD).toBeGreaterThan(RAW * 4)
  })

  test('is left alone where it only costs time, but is tried again now and then', async () => {
    const { RAW, ZSTD } = await copyWith({ RAW: 100, ZSTD: 50 }, 300)
    expect(RAW).toBeGreaterThan(ZSTD * 4)
    expect(ZSTD).toBeGreaterThan(20)
  })

  test('is used where it makes no difference to the speed, since less goes over the link', async () => {
    const { RAW, ZSTD } = await copyWith({ RAW: 105, ZSTD: 100 }, 300)
    expect(ZSTD).toBeGreaterThan(RAW * 4)
  })

  test('keeps no extent that would not shrink, and stops trying for a while', async () => {
    expect(await copyWith({ RAW: 10, ZSTD: 18 }, 10, randomBytes(mebibyte))).toEqual({ RAW: 10, ZSTD: 0 })
  })

  test('is never used towards a destination that can not unpack', async () => {
    expect((await createCompression(false).pack(text, createRoundMeter())).codec).toBe('RAW')
  })
})
