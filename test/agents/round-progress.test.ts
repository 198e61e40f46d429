import { describe, expect, test } from 'vitest'
import { createChangeRate } from '../../src/agents/migration/change-rate.ts'
import { createRoundMeter, type RoundWaits } from '../../src/agents/migration/round-meter.ts'
import { bottleneckOf, createProgressReporter } from '../../src/agents/migration/round-progress.ts'

const waits = (change: Partial<RoundWaits>): RoundWaits => ({ reading: 0, hashing: 0, compressing: 0, sending: 0, verifying: 0, ...change })

describe('what holds a copy up', () => {
  test.each([
    ['SOURCE_DISK', waits({ reading: 500, sending: 400 }), 0],
    ['SOURCE_CPU', waits({ hashing: 300, compressing: 300, sending: 500 }), 0],
    ['DESTINATION_DISK', waits({ reading: 300, verifying: 200, sending: 200 }), 0],
    ['BANDWIDTH_LIMIT', waits({ sending: 2_000 }), 600],
  ] as const)('is %s, by what was waited for longest', (bottleneck, measured, heldMs) => {
    expect(bottleneckOf(measured, 1_000, heldMs, 'DESTINATION_DISK')).toBe(bottleneck)
  })

  test('is the link where the destination waits too, and nothing where nobody waits', () => {
    expect(bottleneckOf(waits({ sending: 10 }), 1_000, 400, 'LINK')).toBe('LINK')
    expect(bottleneckOf(waits({}), 1_000, 0, 'LINK')).toBeNull()
  })
})

/** A meter whose clock a test sets. */
function meterAt(elapsed: { ms: number }) {
  const meter = createRoundMeter()
  Object.defineProperty(meter, 'elapsedMs', { get: () => elapsed.ms })
  return meter
}

test('rate, ETA and bottleneck follow the last ten seconds, not the whole round', () => {
  const elapsed = { ms: 0 }
  const meter = meterAt(elapsed)
  const progress = createProgressReporter(1, meter, () => 0)
  meter.totalBlocks = 10_000
  for (; elapsed.ms < 60_000; elapsed.ms += 500) {
    meter.scannedBlocks += 50
    meter.waits.reading += 400
    progress(0, null)
  }
  for (; elapsed.ms < 75_000; elapsed.ms += 500) {
    meter.scannedBlocks += 5
    meter.waits.verifying += 1_500
    progress(0, null)
  }
  const last = progress(7, 123)
  // Ten blocks a second of late, and a hundred before; 3,850 blocks are left.
  expect(last.rateBytesPerSecond / 65_536).toBeGreaterThan(9)
  expect(last.rateBytesPerSecond / 65_536).toBeLessThan(11)
  expect(last.etaMs! / 1000).toBeGreaterThan(3_850 / 11)
  expect(last.etaMs! / 1000).toBeLessThan(3_850 / 9)
  expect(last).toMatchObject({ bottleneck: 'LINK', bytesSent: 7, changeRateBytesPerSecond: 123 })
})

test('the rate of change is that of the last seconds, and unknown before there is enough to tell', () => {
  let now = 0
  const rate = createChangeRate(() => now)
  expect(rate.learn(0)).toBeNull()
  now = 500
  expect(rate.learn(4)).toBeNull()
  now = 2_000
  expect(rate.learn(8)).toBe(4 * 65_536)
  for (now = 3_000; now <= 40_000; now += 1_000) rate.learn(8)
  expect(rate.learn(8)).toBe(0)
})
