/**
 * Whether the tasks of a component can still go on. A task that waits at a barrier, or for a message, is let go by tasks that run, or that will be let go themselves: whoever is
 * left once nobody else can be let go waits for ever.
 */
export interface WaitingTask {
  index: number
  /** RUNNING also before it has started: it may do anything yet. */
  wait: TaskWait | 'RUNNING' | 'ENDED'
}

export type TaskWait =
  | { at: 'BARRIER'; name: string; /** How many have to come. */ size: number }
  | { at: 'RECEIVE'; /** Null: from whomever. */ from: number | null }

export interface Standstill {
  /** Those that wait for ever, by index. */
  tasks: number[]
  /** The circle in which they wait for each other, from its lowest index; empty where they wait for tasks that are not or have ended. */
  cycle: number[]
  /** One sentence, with the tasks and the barriers. */
  message: string
}

/** For the tasks of one component. Null while everybody may still be let go. Quick also where 100,000 wait. */
export function findStandstill(tasks: readonly WaitingTask[]): Standstill | null {
  const waits = new Map<number, TaskWait>()
  let alive = 0
  const gone = new Set<number>()
  const go = tasks.flatMap(({ index, wait }) => (wait === 'RUNNING' ? [index] : []))
  for (const { index, wait } of tasks) if (typeof wait === 'object') waits.set(index, wait)
  const receivers = Map.groupBy(waits.keys(), (index) => {
    const wait = waits.get(index)
    return wait?.at === 'RECEIVE' ? wait.from : undefined
  })
  const barriers = barriersIn(waits)
  for (let next = go.pop(); ; next = go.pop()) {
    if (next !== undefined) {
      alive++
      gone.add(next)
      go.push(...taken(receivers, next), ...taken(receivers, null))
    } else {
      // Whoever is alive and not there can still come.
      const [barrier] = barriers
      if (!barrier || barrier.missing > alive) break
      barriers.shift()
      go.push(...barrier.members)
    }
  }
  const stuck = new Map([...waits].filter(([index]) => !gone.has(index)).toSorted(([a], [b]) => a - b))
  if (stuck.size === 0) return null
  const cycle = cycleIn(stuck)
  return { tasks: [...stuck.keys()], cycle, message: cycle.length > 0 ? cycleSentence(cycle, stuck) : shortSentence(stuck) }
}

function taken(receivers: Map<number | null | undefined, number[]>, from: number | null): number[] {
  const letGo = receivers.get(from) ?? []
  receivers.delete(from)
  return letGo
}

/** Those that miss the fewest first. Where tasks disagree about a barrier's size, the smallest counts. */
function barriersIn(waits: ReadonlyMap<number, TaskWait>): { missing: number; members: number[] }[] {
  const byName = new Map<string, { size: number; members: number[] }>()
  for (const [index, wait] of waits) {
    if (wait.at !== 'BARRIER') continue
    const barrier = byName.get(wait.name) ?? { size: wait.size, members: [] }
    barrier.size = Math.min(barrier.size, wait.size)
    barrier.members.push(index)
    byName.set(wait.name, barrier)
  }
  return [...byName.values()]
    .map(({ size, members }) => ({ missing: size - members.length, members }))
    .toSorted((a, b) => a.missing - b.missing)
}

/** Each that is stuck waits for others that are stuck elsewhere: following the lowest of them leads into a circle, or to one that waits for nobody there is. */
function cycleIn(stuck: ReadonlyMap<number, TaskWait>): number[] {
  const [lowest] = stuck.keys()
  const elsewhere = [...stuck.keys()].find((index) => placeKey(index, stuck) !== placeKey(lowest!, stuck))
  const awaited = (index: number): number | undefined => {
    const wait = stuck.get(index)
    if (wait?.at === 'RECEIVE' && wait.from !== null) return stuck.has(wait.from) ? wait.from : undefined
    return placeKey(index, stuck) === placeKey(lowest!, stuck) ? elsewhere : lowest
  }
  const walked = new Set<number>()
  for (const start of stuck.keys()) {
    const trail = new Map<number, number>()
    let at: number | undefined = start
    for (; at !== undefined && !walked.has(at); at = awaited(at)) {
      walked.add(at)
      trail.set(at, trail.size)
    }
    const place = at === undefined ? undefined : trail.get(at)
    if (place === undefined) continue
    const circle = [...trail.keys()].slice(place)
    const first = circle.indexOf(circle.reduce((least, index) => Math.min(least, index)))
    return [...circle.slice(first), ...circle.slice(0, first)]
  }
  return []
}

/** The same for those who stand at one barrier: they don't wait for each other. */
function placeKey(index: number, stuck: ReadonlyMap<number, TaskWait>): string {
  const wait = stuck.get(index)
  return wait?.at === 'BARRIER' ? `barrier ${wait.name}` : `task ${index}`
}

function cycleSentence(cycle: readonly number[], stuck: ReadonlyMap<number, TaskWait>): string {
  const shown = cycle.length > 6 ? cycle.slice(0, 6) : cycle
  const links = shown.map((index) => `task ${index} waits ${placeOf(stuck.get(index))}`)
  const rest = cycle.length > 6 ? `, and ${cycle.length - 6} more` : ''
  return `Tasks wait for each other in a circle, and none can go on: ${links.join(', ')}${rest}.`
}

function shortSentence(stuck: ReadonlyMap<number, TaskWait>): string {
  const [[index, wait] = [-1, undefined]] = stuck
  if (wait?.at === 'BARRIER') {
    const there = [...stuck.keys()].filter((other) => placeKey(other, stuck) === placeKey(index, stuck)).length
    return `Task ${index} waits ${placeOf(wait)} for ${wait.size} tasks, ${there} ${there === 1 ? 'is' : 'are'} there, and too few others can still come.`
  }
  return `Task ${index} waits ${placeOf(wait)}, and nobody is left who could send it.`
}

function placeOf(wait: TaskWait | undefined): string {
  if (wait?.at === 'BARRIER') return `at barrier ${JSON.stringify(wait.name.slice(0, 100))}`
  return wait?.from == null ? 'for a message' : `for a message of task ${wait.from}`
}
