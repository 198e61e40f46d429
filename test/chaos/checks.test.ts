import { expect, test } from 'vitest'
import { checkAcknowledged, checkRemains } from './checks.ts'
import { planRun } from './plan.ts'
import { newResult } from './result.ts'

test('a run in which next to nothing was acknowledged tells nothing of lost records', () => {
  const checked = (recordsAcknowledged: number) => {
    const result = { ...newResult(planRun('a seed', 0), 'a commit'), recordsAcknowledged }
    checkAcknowledged(result)
    return result.unresolved
  }
  expect([0, 2, 3, 200].map(checked)).toEqual([1, 1, 0, 0])
})

test('the landing image may remain of a copy that was kept, and of no other', () => {
  const remaining = ['disk-0.raw', 'console.log', 'landing-initrd', 'landing-kernel'].map((name) => `volume demo-1-${name}`)
  const leaked = (copyKept: boolean, present: string[]) => {
    const result = newResult(planRun('a seed', 0), 'a commit')
    checkRemains(['volume of another'], ['volume of another', ...present], copyKept, result)
    return result.leaks
  }
  expect(leaked(true, remaining)).toBe(0)
  expect(leaked(false, remaining)).toBe(2)
  expect(leaked(true, [...remaining, 'volume demo-1-disk-0.overlay.qcow2'])).toBe(1)
})
