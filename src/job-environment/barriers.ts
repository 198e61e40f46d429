/**
 * Where tasks wait for each other, over all children of a job. Pure.
 *
 * A task that runs again after its child died passes at once through what it had passed before: those it met there have gone on.
 */
export interface Barriers {
  /** The task begins (again). */
  began(index: number): void
  /** Tasks that may go on now; empty while others are awaited. `problem`: the barrier can never open. */
  arrive(index: number, name: string, size: number): { open: number[]; problem?: string }
  /** It waits no longer: its child is gone, or it has ended. */
  left(index: number): void
  /** Whether anybody waits anywhere. */
  readonly inUse: boolean
  /** Where it waits; null where it doesn't. */
  waitOf(index: number): { name: string; size: number } | null
}

export function createBarriers(): Barriers {
  const waiting = new Map<string, { size: number; tasks: Set<number> }>()
  /** How often a task has passed, and how often it has arrived in its present run, by task and name. */
  const passed = new Map<string, number>()
  const arrivals = new Map<number, Map<string, number>>()

  return {
    began(index) {
      arrivals.delete(index)
    },
    arrive(index, name, size) {
      const mine = arrivals.get(index) ?? new Map<string, number>()
      arrivals.set(index, mine)
      const times = (mine.get(name) ?? 0) + 1
      mine.set(name, times)
      if (times <= (passed.get(key(index, name)) ?? 0)) return { open: [index] }
      const barrier = waiting.get(name) ?? { size, tasks: new Set() }
      waiting.set(name, barrier)
      if (barrier.size !== size)
        return {
          open: [],
          problem: `Task ${index} waits at the barrier "${name}" for ${size} tasks, and task ${[...barrier.tasks][0]} there for ${barrier.size}: all must name one number.`,
        }
      barrier.tasks.add(index)
      if (barrier.tasks.size < size) return { open: [] }
      waiting.delete(name)
      const open = [...barrier.tasks].toSorted((one, other) => one - other)
      for (const task of open) passed.set(key(task, name), (passed.get(key(task, name)) ?? 0) + 1)
      return { open }
    },
    left(index) {
      for (const [name, { tasks }] of waiting) if (tasks.delete(index) && tasks.size === 0) waiting.delete(name)
    },
    get inUse() {
      return waiting.size > 0
    },
    waitOf(index) {
      for (const [name, { size, tasks }] of waiting) if (tasks.has(index)) return { name, size }
      return null
    },
  }
}

function key(index: number, name: string): string {
  return `${index} ${name}`
}
