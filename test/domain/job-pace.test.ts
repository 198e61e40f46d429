import { expect, test } from 'vitest'
import { jobPace } from '../../src/domain/job-pace.ts'

const at = (seconds: number) => new Date(seconds * 1000)

test('the pace is the mean since the start, and the ETA what is left at that pace', () => {
  expect(jobPace({ startedAt: at(0), endedAt: null }, { PENDING: 25, RUNNING: 5, DONE: 9, SKIPPED: 1 }, at(5))).toEqual({
    tasksPerSecond: 2,
    etaMs: 15_000,
  })
})

test('of a job that has ended it stands still, and there is no ETA', () => {
  expect(jobPace({ startedAt: at(0), endedAt: at(4) }, { DONE: 8, PENDING: 3 }, at(100))).toEqual({ tasksPerSecond: 2, etaMs: null })
})

test.each([
  ['before it began', { startedAt: null, endedAt: null }, {}],
  ['before the first task ended', { startedAt: at(0), endedAt: null }, { RUNNING: 3 }],
  ['with a clock that went back', { startedAt: at(9), endedAt: null }, { DONE: 3 }],
])('%s nothing is known', (_when, job, counts) => {
  expect(jobPace(job, counts, at(5))).toEqual({ tasksPerSecond: null, etaMs: null })
})
