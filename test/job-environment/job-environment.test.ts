import { describe, expect, test } from 'vitest'
import { runJob, type EnvironmentTask, type JobReport } from '../../src/job-environment/job-environment.ts'
import { scriptedChildren, type Deed } from './support/scripted-children.ts'

type Options = Partial<Parameters<typeof runJob>[0]>

/** Runs tasks that do as their inputs say; each is a component of its own unless `components` says otherwise. */
function job(children: ReturnType<typeof scriptedChildren>, deeds: Deed[], options: Options & { interactsWith?: number[][] } = {}) {
  const outputs: unknown[] = []
  const results: number[] = []
  const ended: { index: number; end: string; why: string }[] = []
  const logs: string[] = []
  const lost: string[] = []
  const stumbled: number[] = []
  const report: JobReport = {
    started() {},
    done: (_, index, output) => ((outputs[index] = output), results.push(index)),
    stumbled: (index) => stumbled.push(index),
    ended: (index, end, why) => ended.push({ index, end, why }),
    log: (index, text) => logs.push(`${index}: ${text}`),
    childReady() {},
    childLost: (_, why) => lost.push(why),
  }
  const tasks = new Map<number, EnvironmentTask>(
    deeds.map((input, index) => [index, { input, interactsWith: options.interactsWith?.[index] ?? [] }]),
  )
  const end = runJob({
    components: deeds.map((_, index) => [index]),
    tasks,
    ended: new Set(),
    counted: new Map(),
    retries: 0,
    onPoisonTask: 'FAIL',
    program: { source: '', shared: {}, taskTimeoutMs: 5_000 },
    peers: 'INTERACTING' as const,
    children: 2,
    start: children.fork,
    remove: children.remove,
    report,
    signal: new AbortController().signal,
    ...options,
  })
  return { end, outputs, results, ended, logs, lost, stumbled }
}

const answers = (count: number): Deed[] => Array.from({ length: count }, (_, index) => ({ answer: index * index }))

test('every task runs once, and its output is where it belongs', async () => {
  using children = scriptedChildren()
  const { end, outputs, results } = job(children, answers(500), { children: 4 })
  await end
  expect(outputs).toEqual(Array.from({ length: 500 }, (_, index) => index * index))
  expect(results).toHaveLength(500)
  expect(children.executions).toHaveLength(500)
  expect(children.forks).toBe(4)
  expect(children.alive).toBe(0)
})

describe('a child that dies', () => {
  test('costs the tasks in flight a second run, and each result counts once', async () => {
    using children = scriptedChildren()
    const deeds = answers(200)
    for (const index of [3, 50, 120]) deeds[index] = { dieOnce: true }
    const { end, results, lost } = job(children, deeds)
    await end
    expect(results.toSorted((a, b) => a - b)).toEqual(deeds.map((_, index) => index))
    expect(lost).toHaveLength(3)
    expect(children.forks).toBe(5)
    expect(children.alive).toBe(0)
  })

  test('three times with one task fails the job with its name', async () => {
    using children = scriptedChildren()
    const deeds = answers(5)
    deeds[2] = { die: true }
    const { end } = job(children, deeds)
    await expect(end).rejects.toMatchObject({
      code: 'TASK_FAILED',
      message: expect.stringMatching(/^Task 2 ended its child 3 times/) as string,
    })
    expect(children.executions.filter(({ index }) => index === 2)).toHaveLength(3)
    expect(children.alive).toBe(0)
  })

  test('three times with one task skips it where the policy says so, and the others are done', async () => {
    using children = scriptedChildren()
    const deeds = answers(20)
    deeds[2] = { die: true }
    const { end, results, ended } = job(children, deeds, { onPoisonTask: 'SKIP' })
    await end
    expect(results).toHaveLength(19)
    expect(ended).toMatchObject([{ index: 2, end: 'SKIPPED' }])
  })

  test('by a hand from outside is replaced, and the job is done', async () => {
    using children = scriptedChildren()
    const { end, results, lost } = job(children, [...answers(20), { hang: true }], {
      children: 1,
      onPoisonTask: 'SKIP',
      program: { source: '', shared: {}, taskTimeoutMs: 500 },
    })
    setTimeout(() => children.kill('child-1-0'), 100)
    await end
    expect(results).toHaveLength(20)
    expect(lost[0]).toBe('The channel to the child closed.')
  })

  test('because it says what is no message of the protocol', async () => {
    using children = scriptedChildren()
    const { end } = job(children, [{ babble: true }])
    await expect(end).rejects.toMatchObject({ code: 'TASK_FAILED' })
  })
})

describe('a task', () => {
  test('that fails runs again as often as was asked, and then fails the job', async () => {
    using children = scriptedChildren()
    const { end } = job(children, [{ fail: 'out of luck' }], { retries: 2 })
    await expect(end).rejects.toMatchObject({ code: 'TASK_FAILED', message: 'Task 0 failed 3 times: out of luck' })
    expect(children.executions).toHaveLength(3)
    expect(children.forks).toBeLessThanOrEqual(2)
  })

  test('that does not end in its time loses its child and counts as failed', async () => {
    using children = scriptedChildren()
    const { end } = job(children, [{ hang: true }], { children: 1, program: { source: '', shared: {}, taskTimeoutMs: 100 } })
    await expect(end).rejects.toMatchObject({ message: 'Task 0 failed once: it did not end within 100 ms' })
    expect(children.alive).toBe(0)
  })

  test('says what is kept', async () => {
    using children = scriptedChildren()
    const { end, logs } = job(children, [{ say: 'here I am' }])
    await end
    expect(logs).toEqual(['0: here I am'])
  })
})

describe('tasks that interact', () => {
  test('meet at a barrier within a child, and over two of them', async () => {
    using children = scriptedChildren()
    const deeds: Deed[] = Array.from({ length: 4 }, () => ({ meet: 'start', size: 4 }))
    const { end, outputs } = job(children, deeds, {
      components: [
        [0, 1],
        [2, 3],
      ],
    })
    await end
    expect(outputs).toEqual(['met', 'met', 'met', 'met'])
  })

  test('that wait for each other for ever are found and named', async () => {
    using children = scriptedChildren()
    const deeds: Deed[] = [
      { meet: 'a', size: 2 },
      { meet: 'b', size: 2 },
    ]
    const { end } = job(children, deeds, { components: [[0, 1]] })
    await expect(end).rejects.toMatchObject({
      code: 'BARRIERS_STUCK',
      message: expect.stringMatching(/circle.*task 0 waits at barrier "a", task 1 waits at barrier "b"/) as string,
    })
  })

  test('send each other what they have to say, in whichever order they come', async () => {
    using children = scriptedChildren()
    const deeds: Deed[] = [{ tell: 1, body: { answer: 42 } }, { hear: true }]
    const { end, outputs } = job(children, deeds, { components: [[0, 1]], interactsWith: [[1], []] })
    await end
    expect(outputs).toEqual(['told', { answer: 42 }])
  })

  test('a receiver that dies hears it again', async () => {
    using children = scriptedChildren()
    const deeds: Deed[] = [{ tell: 1, body: 'hello' }, { hear: true }, { dieOnce: true }]
    const { end, outputs } = job(children, deeds, { components: [[0, 1, 2]], interactsWith: [[1], [2], []] })
    await end
    expect(outputs).toEqual(['told', 'hello', 'survived'])
  })

  test('may not talk with others, and a task that tries fails the job', async () => {
    using children = scriptedChildren()
    const { end } = job(children, [{ tell: 1, body: 'psst' }, { answer: 1 }], { children: 1 })
    await expect(end).rejects.toMatchObject({
      code: 'PROGRAM_FAILED',
      message: 'Task 0 sent a message to task 1, with which it may not talk.',
    })
  })
})

test('a child is not believed what it says of tasks that are not its own', async () => {
  using children = scriptedChildren()
  const { end, stumbled } = job(children, [{ slander: 1 }, { answer: 1 }])
  await end
  expect(stumbled).toEqual([])
})

test('one that failed at a barrier is not taken to be there still: its partner waits until it has come again', async () => {
  using children = scriptedChildren()
  const deeds: Deed[] = [
    { stumbleAt: 'start', size: 2 },
    { meet: 'start', size: 2 },
    { answer: 'done', afterMs: 300 },
  ]
  // The first child goes on with the partner, and only the second one, when it is done, takes up the task that failed.
  const { end, outputs, results, stumbled } = job(children, deeds, { components: [[0], [2], [1]], retries: 1 })
  await end
  expect(stumbled).toEqual([0])
  expect(results[0]).toBe(2)
  expect(outputs).toEqual(['met', 'met', 'done'])
})

test('with the privilege to talk with all, tasks in different children do', async () => {
  using children = scriptedChildren()
  const { end, outputs } = job(children, [{ tell: 1, body: 'hello' }, { hear: true }], { peers: 'ALL' })
  await end
  expect(outputs).toEqual(['told', 'hello'])
})

describe('a job', () => {
  test('whose program no child takes fails before any task', async () => {
    using children = scriptedChildren({ refuseProgram: 'SyntaxError: Unexpected token (line 3)' })
    const { end } = job(children, answers(3))
    await expect(end).rejects.toMatchObject({ code: 'PROGRAM_FAILED', message: expect.stringContaining('line 3') as string })
    expect(children.executions).toEqual([])
    expect(children.alive).toBe(0)
  })

  test('goes on where a fork fails, and ends with the reason where none succeeds', async () => {
    using some = scriptedChildren({ failForks: 2 })
    const { end, results } = job(some, answers(10))
    await end
    expect(results).toHaveLength(10)
    using none = scriptedChildren({ failForks: 1_000 })
    await expect(job(none, answers(1), { children: 1 }).end).rejects.toThrow('No room for a child.')
  })

  test('that is ended from outside leaves no child', async () => {
    using children = scriptedChildren()
    const stop = new AbortController()
    const { end } = job(children, [{ hang: true }], { signal: stop.signal })
    setTimeout(() => stop.abort(new Error('cancelled')), 50)
    await expect(end).rejects.toThrow('cancelled')
    expect(children.alive).toBe(0)
  })

  test('of which all had ended before has nothing to do', async () => {
    using children = scriptedChildren()
    await job(children, answers(2), { ended: new Set([0, 1]) }).end
    expect(children.forks).toBe(0)
  })
})
