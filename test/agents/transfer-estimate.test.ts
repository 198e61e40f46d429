import { expect, test } from 'vitest'
import { createTransferEstimate } from '../../src/agents/migration/transfer-estimate.ts'

test('the estimate of what remains follows the last telling round, and adds what a round costs in any case', () => {
  const estimate = createTransferEstimate()
  expect(estimate.transferMs(100)).toBe(1600)
  estimate.learn(1000, 2100, 100)
  expect(estimate.transferMs(100)).toBe(200)
  estimate.learn(0, 40, 10)
  expect(estimate.transferMs(100)).toBe(230)
  estimate.learn(500, 520, 20)
  expect(estimate.transferMs(0)).toBe(30)
  expect(estimate.transferMs(100)).toBe(130)
})
