import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createTraceParser } from '../../src/agents/migration/trace-events.ts'

const lines = [
  '          <idle>-0       [000] d.h1.   12.345678: block_rq_complete: 254,0 WS () 2048 + 8 [0]',
  '     kworker/0:1H-17     [001] d..1.   12.345679: block_rq_complete: 254,0 R () 4096 + 256 [0]',
  '          <idle>-0       [000] d.h1.   12.345680: block_rq_complete: 254,0 NS () 131072 + 64 [0]',
  '          <idle>-0       [000] d.h1.   12.345681: block_rq_complete: 254,0 FF () 18446744073709551615 + 0 [0]',
  '          <idle>-0       [000] d.h1.   12.345682: block_rq_complete: 254,0 DS () 524288 + 16384 none,0,0 [0]',
]
const text = `${lines.join('\n')}\n`
const writes = [
  { firstSector: 2048, sectorCount: 8 },
  { firstSector: 131_072, sectorCount: 64 },
  { firstSector: 524_288, sectorCount: 16_384 },
]

describe("the kernel's trace", () => {
  test('gives writes, zero-outs and discards, but no reads and no flushes', () => {
    const parser = createTraceParser()
    expect(parser.push(text)).toEqual(writes)
    expect(parser.lost).toBe(false)
  })

  test('reads the same wherever the text is cut', () => {
    fc.assert(
      fc.property(fc.nat(text.length), (cut) => {
        const parser = createTraceParser()
        expect([...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))]).toEqual(writes)
      }),
    )
  })

  test('knows that events are missing when the kernel says so, or in a form that it can not read', () => {
    for (const line of ['CPU:0 [LOST 12 EVENTS]\n', 'x: block_rq_complete: something new\n']) {
      const parser = createTraceParser()
      parser.push(line)
      expect(parser.lost).toBe(true)
    }
  })
})
