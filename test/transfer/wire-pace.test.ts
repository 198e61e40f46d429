import { describe, expect, test } from 'vitest'
import { createWirePace } from '../../src/transfer/wire-pace.ts'

/** A clock that jumps to the end of each sleep. */
function fakeClock() {
  let at = 0
  return {
    now: () => at,
    async sleep(milliseconds: number) {
      at += milliseconds
    },
    pass(milliseconds: number) {
      at += milliseconds
    },
  }
}

async function send(pace: ReturnType<typeof createWirePace>, bytes: number): Promise<void> {
  for (let left = bytes; left > 0;) left -= await pace.take(left)
}

describe('a pace on the wire', () => {
  test.each([65_536, 1_000_000, 100_000_000])('lets through %i bytes a second, no more and no less', async (limit) => {
    const clock = fakeClock()
    const pace = createWirePace(clock)
    pace.limitBytesPerSecond = limit
    await send(pace, limit * 10)
    expect(clock.now() / 1000).toBeGreaterThan(9.5)
    expect(clock.now() / 1000).toBeLessThan(10.5)
    expect(pace.waitedMs).toBeGreaterThan(9_000)
  })

  test('counts what was not asked for as well', async () => {
    const clock = fakeClock()
    const pace = createWirePace(clock)
    pace.limitBytesPerSecond = 1_000_000
    for (let part = 0; part < 100; part++) {
      await send(pace, 50_000)
      pace.spend(50_000)
    }
    expect(clock.now() / 1000).toBeGreaterThan(9.5)
    expect(clock.now() / 1000).toBeLessThan(10.5)
  })

  test('saves up little over a pause', async () => {
    const clock = fakeClock()
    const pace = createWirePace(clock)
    pace.limitBytesPerSecond = 1_000_000
    clock.pass(60_000)
    const before = clock.now()
    await send(pace, 1_000_000)
    expect(clock.now() - before).toBeGreaterThanOrEqual(850)
  })

  test('without a limit nobody waits, and another limit holds at once for who waits already', async () => {
    const clock = fakeClock()
    const pace = createWirePace({
      now: clock.now,
      async sleep(milliseconds) {
        await clock.sleep(milliseconds)
        // The operator lifts it during the first wait.
        pace.limitBytesPerSecond = null
      },
    })
    expect(await pace.take(1_000_000)).toBe(1_000_000)
    expect(clock.now()).toBe(0)
    pace.limitBytesPerSecond = 65_536
    await send(pace, 100_000_000)
    expect(clock.now()).toBeLessThanOrEqual(100)
  })
})
