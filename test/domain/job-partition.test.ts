import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { partition, type PartitionedTask } from '../../src/domain/job-partition.ts'

const alone = (count: number): PartitionedTask[] => Array.from({ length: count }, (_, index) => ({ index, interactsWith: [] }))

const graphs = fc.integer({ min: 1, max: 60 }).chain((count) =>
  fc.record({
    tasks: fc
      .array(fc.array(fc.nat(count - 1), { maxLength: 2 }), { minLength: count, maxLength: count })
      .map((edges) => edges.map((interactsWith, index) => ({ index, interactsWith }))),
    children: fc.integer({ min: 1, max: 12 }),
  }),
)

describe('a partition', () => {
  test('has every task in exactly one component, interacting tasks in the same, and every component at exactly one child', () => {
    fc.assert(
      fc.property(graphs, ({ tasks, children }) => {
        const { components, assignment } = partition(tasks, children)
        expect(components.flat().toSorted((a, b) => a - b)).toEqual(tasks.map(({ index }) => index))
        const componentOf = new Map(components.flatMap((members, place) => members.map((index) => [index, place])))
        for (const { index, interactsWith } of tasks)
          for (const other of interactsWith) expect(componentOf.get(other)).toBe(componentOf.get(index))
        expect(assignment).toHaveLength(children)
        expect(assignment.flat().toSorted((a, b) => a - b)).toEqual(components.map((_, place) => place))
      }),
    )
  })

  test('splits what need not be together: no component falls into two that do not interact', () => {
    fc.assert(
      fc.property(graphs, ({ tasks }) => {
        const neighbours = new Map<number, Set<number>>(tasks.map(({ index }) => [index, new Set()]))
        for (const { index, interactsWith } of tasks)
          for (const other of interactsWith) {
            neighbours.get(index)!.add(other)
            neighbours.get(other)!.add(index)
          }
        for (const members of partition(tasks, 1).components) {
          const reached = new Set([members[0]!])
          for (const index of reached) for (const other of neighbours.get(index)!) reached.add(other)
          expect(reached.size).toBe(members.length)
        }
      }),
    )
  })

  test('is balanced: no child has more than the one with the least by more than the component it was given last', () => {
    fc.assert(
      fc.property(graphs, ({ tasks, children }) => {
        const { components, assignment } = partition(tasks, children)
        const sizes = assignment.map((places) => places.map((place) => components[place]!.length))
        const loads = sizes.map((ofChild) => ofChild.reduce((sum, size) => sum + size, 0))
        for (const [child, load] of loads.entries()) expect(load - (sizes[child]!.at(-1) ?? 0)).toBeLessThanOrEqual(Math.min(...loads))
      }),
    )
  })

  test('has the largest component first, and does not depend on who named whom', () => {
    fc.assert(
      fc.property(graphs, ({ tasks, children }) => {
        const { components } = partition(tasks, children)
        const sizes = components.map(({ length }) => length)
        expect(sizes).toEqual(sizes.toSorted((a, b) => b - a))
        const reversed = tasks.map(({ index }) => ({
          index,
          interactsWith: tasks.filter(({ interactsWith }) => interactsWith.includes(index)).map((other) => other.index),
        }))
        expect(partition(reversed, children)).toEqual(partition(tasks, children))
      }),
    )
  })

  test('says a component that is larger than an even share, and nothing of one that is not', () => {
    const chain = (count: number) => alone(count).map(({ index }) => ({ index, interactsWith: index === 0 ? [] : [index - 1] }))
    const tasks = [...chain(7), ...alone(10).slice(7)]
    expect(partition(tasks, 2).oversized).toEqual({ component: 0, tasks: 7, evenShare: 5 })
    expect(partition(tasks, 1).oversized).toBeNull()
    expect(partition(alone(10), 4).oversized).toBeNull()
    expect(partition(alone(2), 8)).toEqual({ components: [[0], [1]], assignment: [[0], [1], [], [], [], [], [], []], oversized: null })
    expect(partition([], 1)).toEqual({ components: [], assignment: [[]], oversized: null })
  })

  test('refuses an unknown task, and no child at all', () => {
    expect(() => partition([{ index: 0, interactsWith: [1] }], 1)).toThrow(
      new RangeError('Task 0 interacts with task 1, which does not exist.'),
    )
    expect(() => partition(alone(1), 0)).toThrow(RangeError)
  })

  test.each([
    ['on their own', (index: number) => [index]],
    ['in one chain from its end', (index: number) => (index === 99_999 ? [] : [index + 1])],
    ['around one', () => [50_000]],
  ])('of 100,000 tasks %s', (_how, interactsWith) => {
    const tasks = alone(100_000).map(({ index }) => ({ index, interactsWith: interactsWith(index) }))
    expect(partition(tasks, 256).components.flat()).toHaveLength(100_000)
  })
})
