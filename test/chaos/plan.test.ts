import { expect, test } from 'vitest'
import { faults } from './faults.ts'
import { phases, planRun } from './plan.ts'

const plans = Array.from({ length: 400 }, (_, run) => planRun('a seed', run))

test('the same seed and number give the same plan, and others another one', () => {
  expect(planRun('a seed', 7)).toEqual(plans[7])
  expect(new Set(plans.map(({ from, faults: planned }) => JSON.stringify([from, planned]))).size).toBeGreaterThan(390)
  expect(planRun('another seed', 7)).not.toEqual({ ...plans[7], seed: 'another seed' })
})

test('every fault, phase and direction comes up; one or two faults a run', () => {
  const planned = plans.flatMap((plan) => plan.faults)
  expect(new Set(planned.map(({ name }) => name))).toEqual(new Set(faults.map(({ name }) => name)))
  expect(new Set(planned.map(({ phase }) => phase))).toEqual(new Set(phases))
  expect(new Set(plans.map(({ from }) => from))).toEqual(new Set(['east', 'west']))
  expect(new Set(plans.map((plan) => plan.faults.length))).toEqual(new Set([1, 2]))
  const jumps = planned.filter(({ name }) => name === 'clock jump')
  expect(new Set(jumps.map(({ direction }) => direction))).toEqual(new Set([1, -1]))
})

test('where only one fault is wanted, every run has it', () => {
  for (const { name, needs } of faults) {
    const only = Array.from({ length: 20 }, (_, run) => planRun('a seed', run, name))
    expect(only.flatMap((plan) => plan.faults.map((fault) => fault.name))).toEqual(only.map(() => name))
    expect(new Set(only.map(({ from }) => from))).toEqual(new Set(needs ? [needs] : ['east', 'west']))
  }
})

test('no fault where it is impossible, and no two that act on the same thing', () => {
  for (const { from, faults: planned } of plans) {
    const chosen = planned.map(({ name }) => faults.find((fault) => fault.name === name)!)
    for (const { needs } of chosen) expect([undefined, from]).toContain(needs)
    const acts = chosen.flatMap((fault) => fault.acts ?? [])
    expect(new Set(acts).size).toBe(acts.length)
  }
})
