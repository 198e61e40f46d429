import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { createDispatcher, mostKills, type Dispatcher } from '../../src/job-environment/dispatcher.ts'

const nothing = new Map<number, { failures: number; kills: number }>()

function dispatcher(components: number[][], options: Partial<Parameters<typeof createDispatcher>[0]> = {}): Dispatcher {
  return createDispatcher({ components, ended: new Set(), retries: 0, onPoisonTask: 'FAIL', counted: nothing, now: () => 0, ...options })
}

test('components go to the least loaded child, the largest first, and one at a time until their length is known', () => {
  const job = dispatcher([[0, 1, 2], [3, 4], [5], [6]])
  job.addChild('a')
  job.addChild('b')
  expect(job.next('a').map(({ tasks }) => tasks)).toEqual([[0, 1, 2]])
  expect(job.next('b').map(({ tasks }) => tasks)).toEqual([[3, 4]])
  expect(job.next('a')).toEqual([])
  expect(job.waiting).toBe(2)
})

test('a child of short tasks is given many ahead, one of long tasks a single one', () => {
  for (const [durationMs, ahead] of [
    [1, 100],
    [200, 1],
  ] as const) {
    const job = dispatcher(Array.from({ length: 200 }, (_, index) => [index]))
    job.addChild('a')
    const [first] = job.next('a')
    expect(job.done('a', first!.tasks[0]!, first!.attempt, durationMs)).toBe(true)
    expect(job.next('a')).toHaveLength(ahead)
  }
})

test('a child with nothing left takes over a whole component from the one that has most', () => {
  const job = dispatcher([[0], [1], [2], [3]])
  job.addChild('slow')
  const [first] = job.next('slow')
  expect(first!.tasks).toEqual([0])
  job.addChild('quick')
  const [taken] = job.next('quick')
  expect(taken!.tasks).toEqual([3])
  expect(job.done('quick', 3, taken!.attempt, 1)).toBe(true)
})

test("a dead child's tasks run again elsewhere, and a result that comes twice counts once", () => {
  const job = dispatcher([[0, 1]])
  job.addChild('a')
  const [run] = job.next('a')
  expect(job.done('a', 0, run!.attempt, 1)).toBe(true)
  expect(job.removeChild('a', { kind: 'killed', why: 'it died' })).toEqual([])
  job.addChild('b')
  const [again] = job.next('b')
  expect(again).toMatchObject({ tasks: [1], attempt: run!.attempt + 1 })
  expect(job.done('b', 1, run!.attempt, 1)).toBe(false)
  expect(job.done('b', 1, again!.attempt, 1)).toBe(true)
  expect(job.done('b', 1, again!.attempt, 1)).toBe(false)
  expect(job.remaining).toBe(0)
})

test('only what ran is blamed for a death, and not what waited behind it', () => {
  const job = dispatcher([[0], [1], [2]], { onPoisonTask: 'SKIP' })
  for (let life = 1; life <= mostKills; life++) {
    job.addChild(`child ${life}`)
    const [first] = job.next(`child ${life}`)
    expect(first!.tasks).toEqual([0])
    const ended = job.removeChild(`child ${life}`, { kind: 'killed', why: 'it died' })
    expect(ended).toEqual(life < mostKills ? [] : [{ index: 0, end: 'SKIPPED', why: 'Task 0 ended its child 3 times: it died' }])
  }
  expect(job.remaining).toBe(2)
})

test('a task that fails is run again as often as was asked, and then ends by the policy', () => {
  const job = dispatcher([[0]], { retries: 2 })
  job.addChild('a')
  for (let attempt = 1; attempt <= 3; attempt++) {
    const [run] = job.next('a')
    const { ended, replaceChild } = job.failed('a', 0, run!.attempt, 'out of luck')!
    expect(replaceChild).toBe(false)
    expect(ended).toEqual(attempt < 3 ? [] : [{ index: 0, end: 'FAILED', why: 'Task 0 failed 3 times: out of luck' }])
  }
})

test('where one of several that interact fails, the child is to be replaced, since the others wait for it', () => {
  const job = dispatcher([[0, 1]], { retries: 1 })
  job.addChild('a')
  const [run] = job.next('a')
  expect(job.failed('a', 0, run!.attempt, 'no')).toEqual({ ended: [], replaceChild: true })
  expect(job.removeChild('a', null)).toEqual([])
  job.addChild('b')
  expect(job.next('b')[0]!.tasks).toEqual([0, 1])
})

test('what a child says of a task that another one runs counts for nothing', () => {
  const job = dispatcher([[0], [1]])
  job.addChild('a')
  job.addChild('b')
  const [ofA] = job.next('a')
  job.next('b')
  expect(job.failed('b', 0, ofA!.attempt, 'a lie')).toBeNull()
  expect(job.done('b', 0, ofA!.attempt, 1)).toBe(false)
  expect(job.remaining).toBe(2)
})

test('what interacts with a skipped task is skipped with it', () => {
  const job = dispatcher([[0, 1], [2]], { onPoisonTask: 'SKIP' })
  job.addChild('a')
  const [run] = job.next('a')
  const { ended } = job.failed('a', 1, run!.attempt, 'no')!
  expect(ended.map(({ index, end }) => [index, end])).toEqual([
    [1, 'SKIPPED'],
    [0, 'SKIPPED'],
  ])
  expect(job.remaining).toBe(1)
})

test('what had ended before a restart is not run, and what it had counted goes on counting', () => {
  const job = dispatcher([[0, 1], [2]], { ended: new Set([0, 2]), counted: new Map([[1, { failures: 0, kills: 2 }]]) })
  expect(job.remaining).toBe(1)
  job.addChild('a')
  expect(job.next('a')[0]!.tasks).toEqual([1])
  expect(job.removeChild('a', { kind: 'killed', why: 'it died' })).toMatchObject([{ index: 1, end: 'FAILED' }])
})

test('whatever dies in whatever order, every task counts exactly once', () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 30 })
  const moves = fc.array(fc.record({ child: fc.nat(3), what: fc.constantFrom('work', 'work', 'work', 'die') }), { maxLength: 300 })
  fc.assert(
    fc.property(sizes, moves, (componentSizes, steps) => {
      let next = 0
      const components = componentSizes.toSorted((a, b) => b - a).map((size) => Array.from({ length: size }, () => next++))
      const job = dispatcher(components, { onPoisonTask: 'SKIP', retries: 10 })
      const counted = new Map<number, number>()
      const sent = new Map<string, { index: number; attempt: number }[]>()
      let lives = 0
      const alive = ['', '', '', ''].map(() => `child ${lives++}`)
      for (const child of alive) job.addChild(child)
      const work = (child: string) => {
        const queue = sent.get(child) ?? []
        for (const { tasks, attempt } of job.next(child)) queue.push(...tasks.map((index) => ({ index, attempt })))
        const first = queue.shift()
        if (first && job.done(child, first.index, first.attempt, 1)) counted.set(first.index, (counted.get(first.index) ?? 0) + 1)
        sent.set(child, queue)
      }
      for (const { child, what } of steps) {
        if (what === 'work') work(alive[child]!)
        else {
          job.removeChild(alive[child]!, null)
          alive[child] = `child ${lives++}`
          job.addChild(alive[child])
        }
      }
      for (let round = 0; job.remaining > 0 && round < 1_000; round++) for (const child of alive) work(child)
      expect(job.remaining).toBe(0)
      expect([...counted.values()].every((count) => count === 1)).toBe(true)
      expect(counted.size).toBe(next)
    }),
    { numRuns: 200 },
  )
})
