import { expect, test } from 'vitest'
import { commandFor } from './campaign.ts'
import { planRun } from './plan.ts'

test('a run is had again with all that it was had with', () => {
  const plan = planRun('2026-01-01', 7)
  expect(commandFor({ patience: 1 }, plan)).toBe('npm run chaos -- --seed 2026-01-01 --from-run 7 --runs 1')
  expect(commandFor({ patience: 3, fault: 'link cut' }, plan)).toBe(
    "npm run chaos -- --seed 2026-01-01 --from-run 7 --runs 1 --fault 'link cut' --patience 3",
  )
})
