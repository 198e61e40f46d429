import { expect, test } from 'vitest'
import { planRun } from './plan.ts'
import { newResult, type RunResult } from './result.ts'
import { totalsOf } from './totals.ts'

function ran(injectedIn: RunResult['injectedIn'], recopiedShare: number | null, ...names: string[]): RunResult {
  const plan = planRun('a seed', 0)
  const faults = names.map((name) => ({ ...plan.faults[0]!, name }))
  return { ...newResult({ ...plan, faults }, 'a commit'), injectedIn, recopiedShare }
}

test('what was planned and never came is told, and so are runs in which nothing came', () => {
  const results = [ran(['SYNC', null], null, 'link cut', 'clock jump'), ran([null], null, 'link cut')]
  expect(totalsOf(results)).toMatchObject({
    runs: 2,
    faults: 1,
    runsWithoutFault: 1,
    byFault: { 'link cut': { planned: 2, came: 1 }, 'clock jump': { planned: 1, came: 0 } },
    clean: true,
  })
})

test('a share of zero that was measured is told from one that never was', () => {
  expect(totalsOf([ran(['SYNC'], null, 'link cut')])).toMatchObject({ recopiedShareMax: 0, retriesMeasured: 0 })
  const measured = [ran(['SYNC'], 0, 'link cut'), ran(['SYNC'], 0.06, 'link cut')]
  expect(totalsOf(measured)).toMatchObject({ recopiedShareMax: 0.06, retriesMeasured: 2, clean: false })
})

test('without a run nothing is clean', () => {
  expect(totalsOf([]).clean).toBe(false)
})
