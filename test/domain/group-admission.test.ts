import { describe, expect, test } from 'vitest'
import { decideAdmissions, holdsSlot, type Applicant, type Need } from '../../src/domain/admission.ts'
import { migrationPhases } from '../../src/domain/migration.ts'
import { randomNumbers } from '../support/random-numbers.ts'

const applicant = (migrationId: string, needs: Need[], change: Partial<Applicant> = {}): Applicant => ({
  migrationId,
  needs,
  state: 'WAITING',
  active: true,
  ...change,
})
const admitted = (applicants: Applicant[], limits: Partial<Record<Need, number>>) => {
  const standings = decideAdmissions(applicants, (need) => limits[need] ?? 100)
  return applicants
    .filter(({ migrationId, state }) => state === 'WAITING' && standings.get(migrationId)!.admitted)
    .map(({ migrationId }) => migrationId)
}

describe('admission', () => {
  const east: Need = 'CLOUD:east'
  const host: Need = 'HOST:east/1'

  test('is in order of arrival, up to the limit', () => {
    const all = ['a', 'b', 'c'].map((id) => applicant(id, [east]))
    expect(admitted(all, { [east]: 2 })).toEqual(['a', 'b'])
    expect(admitted([applicant('held', [east], { state: 'ADMITTED' }), ...all], { [east]: 2 })).toEqual(['a'])
    expect(admitted(all, { [east]: 0 })).toEqual([])
  })

  test('lets a later one pass only where that takes nothing from those before it', () => {
    const held = applicant('held', [host], { state: 'ADMITTED' })
    const first = applicant('first', [east, host])
    expect(admitted([held, first, applicant('elsewhere', ['CLOUD:west'])], { [host]: 1, [east]: 1 })).toEqual(['elsewhere'])
    expect(admitted([held, first, applicant('greedy', [east])], { [host]: 1, [east]: 1 })).toEqual([])
    expect(admitted([held, first, applicant('modest', [east])], { [host]: 1, [east]: 2 })).toEqual(['modest'])
  })

  test('is not held up by one that is paused or whose control plane is gone, and keeps its place', () => {
    const away = applicant('away', [east], { active: false })
    expect(admitted([away, applicant('b', [east])], { [east]: 1 })).toEqual(['b'])
    expect(decideAdmissions([away, applicant('b', [east])], () => 0).get('away')).toMatchObject({ position: 1 })
    expect(admitted([{ ...away, state: 'ADMITTED' }, applicant('b', [east])], { [east]: 1 })).toEqual(['b'])
  })

  test('never exceeds a limit, keeps the order of arrival wherever two want the same, and lets everybody through in the end', () => {
    const random = randomNumbers()
    for (let run = 0; run < 100; run++) {
      const needs: Need[] = ['CLOUD:a', 'CLOUD:b', 'HOST:a/1', 'HOST:b/1', 'DISK:a/d']
      const limits = new Map(needs.map((need) => [need, 1 + random.below(3)]))
      let queue = Array.from({ length: 12 }, (_, index) =>
        applicant(
          `m${index}`,
          needs.filter(() => random.below(2) === 0),
        ),
      )
      for (let round = 0; queue.length > 0; round++) {
        expect(round, `starved, seed ${random.seed}`).toBeLessThan(100)
        const standings = decideAdmissions(queue, (need) => limits.get(need)!)
        const before = queue
        queue = queue.map((one) => (standings.get(one.migrationId)!.admitted ? { ...one, state: 'ADMITTED' } : one))
        for (const need of needs) {
          const holders = queue.filter((one) => one.state === 'ADMITTED' && one.needs.includes(need)).length
          expect(holders, `${need}, seed ${random.seed}`).toBeLessThanOrEqual(limits.get(need)!)
          const places = queue.filter((one) => one.needs.length === 1 && one.needs[0] === need).map(({ state }) => state)
          expect(
            places.lastIndexOf('ADMITTED') < Math.max(0, places.indexOf('WAITING')) ||
              !places.includes('WAITING') ||
              !places.includes('ADMITTED'),
            `order, seed ${random.seed}`,
          ).toBe(true)
        }
        expect(
          before.some(({ state }) => state === 'ADMITTED') || queue.some(({ state }) => state === 'ADMITTED'),
          `stuck, seed ${random.seed}`,
        ).toBe(true)
        const leaving = random.of(queue.filter(({ state }) => state === 'ADMITTED'))
        queue = queue.filter((one) => one !== leaving)
      }
    }
  })
})

test('a slot is held while it copies, also paused, and not at the cutover, on the way back or at the end', () => {
  const holding = migrationPhases.filter((phase) => holdsSlot({ state: 'RUNNING', phase, direction: 'FORWARD' }))
  expect(holding.at(-1)).toBe('SYNC')
  expect(holding).not.toContain('READY_TO_CUT_OVER')
  expect(holdsSlot({ state: 'PAUSED', phase: 'SYNC', direction: 'FORWARD' })).toBe(true)
  expect(holdsSlot({ state: 'RUNNING', phase: 'SYNC', direction: 'BACK_TO_START' })).toBe(false)
  expect(holdsSlot({ state: 'CANCELLED', phase: 'SYNC', direction: 'FORWARD' })).toBe(false)
})
