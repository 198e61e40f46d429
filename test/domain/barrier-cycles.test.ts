import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { findStandstill, type WaitingTask } from '../../src/domain/barrier-cycles.ts'

const at = (index: number, name: string, size: number): WaitingTask => ({ index, wait: { at: 'BARRIER', name, size } })
const receives = (index: number, from: number | null): WaitingTask => ({ index, wait: { at: 'RECEIVE', from } })
const running = (index: number): WaitingTask => ({ index, wait: 'RUNNING' })
const ended = (index: number): WaitingTask => ({ index, wait: 'ENDED' })

describe('tasks can go on', () => {
  test.each([
    ['while one runs that may come to the barrier', [at(0, 'a', 2), running(1)]],
    ['where the barrier is about to open', [at(0, 'a', 2), at(1, 'a', 2)]],
    ['where one barrier opens and sets free who the other waits for', [at(0, 'a', 2), at(1, 'a', 2), at(2, 'b', 3)]],
    ['along a chain of messages', [receives(0, 1), receives(1, 2), running(2)]],
    ['while anybody can send', [receives(0, null), running(1)]],
    ['when all have ended', [ended(0), ended(1)]],
  ])('%s', (_why, tasks) => {
    expect(findStandstill(tasks)).toBeNull()
  })
})

describe('a standstill', () => {
  test('of two barriers that wait for each other is named with its tasks', () => {
    expect(findStandstill([at(0, 'left', 2), at(1, 'right', 2), ended(2)])).toEqual({
      tasks: [0, 1],
      cycle: [0, 1],
      message:
        'Tasks wait for each other in a circle, and none can go on: task 0 waits at barrier "left", task 1 waits at barrier "right".',
    })
  })

  test('of messages in a circle has nobody who only waits for it in the circle', () => {
    expect(findStandstill([receives(0, 2), receives(2, 5), receives(5, 2)])).toMatchObject({ tasks: [0, 2, 5], cycle: [2, 5] })
  })

  test('of some is found while others run', () => {
    expect(findStandstill([running(0), receives(1, 2), receives(2, 1)])).toMatchObject({ tasks: [1, 2], cycle: [1, 2] })
  })

  test('of a barrier that nobody is left for says how many are missing', () => {
    expect(findStandstill([at(0, 'a', 3), at(1, 'a', 3), ended(2)])).toEqual({
      tasks: [0, 1],
      cycle: [],
      message: 'Task 0 waits at barrier "a" for 3 tasks, 2 are there, and too few others can still come.',
    })
    expect(findStandstill([receives(0, 1), ended(1)])).toMatchObject({
      cycle: [],
      message: 'Task 0 waits for a message of task 1, and nobody is left who could send it.',
    })
  })

  test('is found exactly where letting go whoever can be let go leaves somebody', () => {
    const wait = (count: number) =>
      fc.oneof(
        fc.constant('RUNNING' as const),
        fc.constant('ENDED' as const),
        fc.record({
          at: fc.constant('BARRIER' as const),
          name: fc.constantFrom('a', 'b', '__proto__'),
          size: fc.integer({ min: 1, max: 5 }),
        }),
        fc.record({ at: fc.constant('RECEIVE' as const), from: fc.option(fc.nat(count - 1)) }),
      )
    const tasks = fc
      .integer({ min: 1, max: 8 })
      .chain((count) => fc.array(wait(count), { minLength: count, maxLength: count }))
      .map((waits) => waits.map((each, index) => ({ index, wait: each })))
    fc.assert(
      fc.property(tasks, (given) => {
        const found = findStandstill(given)
        expect(found?.tasks ?? []).toEqual(stuckOneByOne(given))
        for (const index of found?.cycle ?? []) expect(found!.tasks).toContain(index)
      }),
      { numRuns: 2_000 },
    )
  })

  test('of 100,000 tasks is found', () => {
    const tasks = Array.from({ length: 100_000 }, (_, index) =>
      index % 2 === 0 ? at(index, `b${index % 10}`, 100_000) : receives(index, index - 1),
    )
    expect(findStandstill(tasks)?.tasks).toHaveLength(100_000)
  })
})

/** The definition, in the plainest way. */
function stuckOneByOne(tasks: WaitingTask[]): number[] {
  const alive = new Set(tasks.filter(({ wait }) => wait === 'RUNNING').map(({ index }) => index))
  const standing = (name: string) => tasks.filter(({ wait }) => typeof wait === 'object' && wait.at === 'BARRIER' && wait.name === name)
  for (let before = -1; before !== alive.size;) {
    before = alive.size
    for (const { index, wait } of tasks) {
      if (typeof wait !== 'object') continue
      if (wait.at === 'RECEIVE') {
        if (wait.from === null ? [...alive].some((other) => other !== index) : alive.has(wait.from)) alive.add(index)
        continue
      }
      const here = standing(wait.name)
      const sizes = here.map((task) => (typeof task.wait === 'object' && task.wait.at === 'BARRIER' ? task.wait.size : 0))
      const whoCanCome = new Set([...here.map((task) => task.index), ...alive])
      if (whoCanCome.size >= Math.min(...sizes)) for (const task of here) alive.add(task.index)
    }
  }
  return tasks.filter(({ index, wait }) => typeof wait === 'object' && !alive.has(index)).map(({ index }) => index)
}
