import { expect, test } from 'vitest'
import { createBarriers } from '../../src/job-environment/barriers.ts'

test('tasks go on together when the last has come, and may meet there again', () => {
  const barriers = createBarriers()
  for (let round = 0; round < 2; round++) {
    expect(barriers.arrive(2, 'start', 3)).toEqual({ open: [] })
    expect(barriers.arrive(0, 'start', 3)).toEqual({ open: [] })
    expect(barriers.waitOf(2)).toEqual({ name: 'start', size: 3 })
    expect(barriers.arrive(1, 'start', 3)).toEqual({ open: [0, 1, 2] })
    expect(barriers.waitOf(2)).toBeNull()
  }
})

test('a task that runs again passes what it had passed, and waits where it had waited', () => {
  const barriers = createBarriers()
  barriers.arrive(0, 'first', 2)
  barriers.arrive(1, 'first', 2)
  barriers.arrive(1, 'second', 2)
  barriers.left(1)
  barriers.began(1)
  expect(barriers.arrive(1, 'first', 2)).toEqual({ open: [1] })
  expect(barriers.arrive(1, 'second', 2)).toEqual({ open: [] })
  expect(barriers.arrive(0, 'second', 2)).toEqual({ open: [0, 1] })
})

test('two numbers for one barrier are a problem that names both', () => {
  const barriers = createBarriers()
  barriers.arrive(4, 'start', 3)
  expect(barriers.arrive(5, 'start', 2).problem).toBe(
    'Task 5 waits at the barrier "start" for 2 tasks, and task 4 there for 3: all must name one number.',
  )
})
