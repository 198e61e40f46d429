import { expect, test } from 'vitest'
import { checkAcknowledged } from './checks.ts'
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
