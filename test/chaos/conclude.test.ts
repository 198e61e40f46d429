import { expect, test } from 'vitest'
import { hasConcluded } from './conclude.ts'

const done = { state: 'DONE', problem: null, done: [] }

test('records are reconciled when a verdict stands and was acted on, or when it is known that there are none', () => {
  expect(hasConcluded({ verdict: 'MIGRATED', reconciliation: done })).toBe(true)
  expect(hasConcluded({ verdict: 'MIGRATED', reconciliation: { ...done, state: 'WAITING' } })).toBe(false)
  expect(hasConcluded({ verdict: 'UNKNOWN', reconciliation: done })).toBe(false)
  expect(hasConcluded(undefined, 'NOT_FOUND')).toBe(true)
  expect(hasConcluded(undefined, 'CLOUD_UNREACHABLE')).toBe(false)
})
