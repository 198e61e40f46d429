import { expect, test } from 'vitest'
import { timeUntilReadyMs } from '../../src/domain/progress-eta.ts'

const pace = { leftBytes: 1000, rateBytesPerSecond: 100, changeRateBytesPerSecond: 0, permittedTransferMs: 1000 }

test('where nothing changes, it is what this round has left', () => {
  expect(timeUntilReadyMs(pace)).toBe(10_000)
  expect(timeUntilReadyMs({ ...pace, changeRateBytesPerSecond: null })).toBe(10_000)
  expect(timeUntilReadyMs({ ...pace, leftBytes: 0 })).toBe(0)
})

test('each round sends what changed during the one before, until the rest fits into the permitted downtime', () => {
  // 10 s, then 5 s, 2.5 s, 1.25 s; the next takes 0.625 s, which is permitted.
  expect(timeUntilReadyMs({ ...pace, changeRateBytesPerSecond: 50 })).toBe(18_750)
  expect(timeUntilReadyMs({ ...pace, changeRateBytesPerSecond: 50, permittedTransferMs: 5_000 })).toBe(10_000)
})

test('where it changes as fast as it is copied, it never comes, unless the rest fits already', () => {
  expect(timeUntilReadyMs({ ...pace, changeRateBytesPerSecond: 100 })).toBeNull()
  expect(timeUntilReadyMs({ ...pace, changeRateBytesPerSecond: 200 })).toBeNull()
  expect(timeUntilReadyMs({ ...pace, changeRateBytesPerSecond: 200, leftBytes: 40 })).toBe(400)
  expect(timeUntilReadyMs({ ...pace, rateBytesPerSecond: 0 })).toBeNull()
  expect(timeUntilReadyMs({ ...pace, permittedTransferMs: 0 })).toBeNull()
})

test('it is a safe integer, however slow it goes', () => {
  expect(timeUntilReadyMs({ ...pace, leftBytes: 1e15, rateBytesPerSecond: 1 })).toBe(Number.MAX_SAFE_INTEGER)
})
