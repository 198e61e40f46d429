import { describe, expect, test } from 'vitest'
import { judgeConvergence } from '../../src/domain/convergence.ts'
import { estimatedRemainingMs, mayCutOver } from '../../src/domain/cutover-criterion.ts'
import { downtimeParts } from '../../src/domain/downtime.ts'
import { fixedDowntimeFrom } from '../../src/domain/fixed-downtime.ts'
import { heldThroughSuspension } from '../../src/domain/freeze-lease.ts'

describe('the criterion', () => {
  const estimate = { freezeMs: 100, transferMs: 2_000.2, verifyMs: 300, bootMs: 7_000, healthMs: 600 }

  test('counts freeze, transfer, verification, boot and health check', () => {
    expect(estimatedRemainingMs(estimate)).toBe(10_001)
    expect(estimatedRemainingMs({ ...estimate, transferMs: 1e17 })).toBe(Number.MAX_SAFE_INTEGER)
  })

  test('holds when the estimate is at most the permitted downtime', () => {
    expect(mayCutOver(10_000, 10_000)).toBe(true)
    expect(mayCutOver(10_001, 10_000)).toBe(false)
  })

  test('takes boot and health check from the last cut-over into that cloud', () => {
    expect(fixedDowntimeFrom({ freezeMs: 1, transferMs: 2, verifyMs: 3, bootMs: 4, healthMs: 5 })).toEqual({
      freezeMs: 1,
      bootMs: 4,
      healthMs: 5,
    })
    expect(fixedDowntimeFrom(null).bootMs).toBeGreaterThan(0)
  })
})

describe('convergence', () => {
  test('is not judged by few rounds', () => {
    expect(judgeConvergence([], 10)).toBeNull()
    expect(judgeConvergence([100, 100, 100], 10)).toBeNull()
  })

  test('is there while rounds get shorter, or the rest fits', () => {
    expect(judgeConvergence([1_000, 500, 250, 120], 10)).toBe('CONVERGING')
    expect(judgeConvergence([10], 10)).toBe('CONVERGING')
  })

  test('is missing when three rounds brought nothing', () => {
    expect(judgeConvergence([1_000, 500, 500, 510, 495], 10)).toBe('NOT_CONVERGING')
  })
})

describe('a freeze', () => {
  const at = (monotonicMs: number, uptimeMs = monotonicMs) => ({ monotonicMs: 7_000 + monotonicMs, uptimeMs: 90_000 + uptimeMs })

  test('counts as held only well within the lease', () => {
    expect(heldThroughSuspension(at(0), at(18_000), 20_000)).toBe(true)
    expect(heldThroughSuspension(at(0), at(19_500), 20_000)).toBe(false)
    expect(heldThroughSuspension(at(0), at(20_000), 20_000)).toBe(false)
  })

  test('counts the time for which this machine slept, and none twice where one of its clocks is coarse', () => {
    expect(heldThroughSuspension(at(0), at(1_000, 18_000), 20_000)).toBe(true)
    expect(heldThroughSuspension(at(0), at(1_000, 20_000), 20_000)).toBe(false)
    expect(heldThroughSuspension(at(0), at(19_500, 19_000 - 1), 20_000)).toBe(false)
  })
})

test('the parts of the downtime add up to all of it', () => {
  const times = { freezing: 1_000, frozen: 1_200, remainderSent: 2_000, verified: 2_700, answering: 9_000, exposed: 9_500 }
  const parts = downtimeParts(times)
  expect(parts).toEqual({ freezeMs: 200, transferMs: 800, verifyMs: 700, bootMs: 6_300, healthMs: 500 })
  expect(Object.values(parts).reduce((sum, part) => sum + part)).toBe(times.exposed - times.freezing)
})
