import { expect, test } from 'vitest'
import { isFenceOfEarlierAttempt } from '../../src/domain/fence-id.ts'

test.each([
  ['m.1.1', true],
  ['m.9', true],
  ['m.10.1', false],
  ['m.11.1', false],
  ['other.1.1', false],
  ['m', false],
])("whether %s is the fence of an attempt before the migration's tenth: %s", (fenceId, is) => {
  expect(isFenceOfEarlierAttempt(fenceId, { id: 'm', attempt: 10 })).toBe(is)
})
