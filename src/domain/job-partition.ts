/**
 * Which tasks belong together, and which child gets them. Tasks that interact have to run in one child at one time, so whole connected components are handed out: the largest
 * first, each to the child with the fewest tasks so far.
 */
export interface PartitionedTask {
  index: number
  /** One direction is enough. */
  interactsWith: readonly number[]
}

export interface Partition {
  /** Task indices, ascending in each; the largest component first, among equals that with the lowest index. */
  components: number[][]
  /** For each child the places in `components` of what it starts with. */
  assignment: number[][]
  oversized: OversizedComponent | null
}

/** A component with more tasks than a child's even share: the job takes as long as this one, however many children there are. */
export interface OversizedComponent {
  /** Its place in `components`. */
  component: number
  tasks: number
  evenShare: number
}

/** @throws RangeError for fewer than one child, and for an interaction with a task that isn't among `tasks`. */
export function partition(tasks: readonly PartitionedTask[], children: number): Partition {
  if (children < 1) throw new RangeError(`A job needs at least one child, and was given ${children}.`)
  const components = connectedComponents(tasks)
  const largest = components[0]?.length ?? 0
  const evenShare = Math.ceil(tasks.length / children)
  return {
    components,
    assignment: assign(components, children),
    oversized: largest > evenShare ? { component: 0, tasks: largest, evenShare } : null,
  }
}

function connectedComponents(tasks: readonly PartitionedTask[]): number[][] {
  const placeOf = new Map(tasks.map(({ index }, place) => [index, place]))
  const parents = Int32Array.from(tasks, (_, place) => place)
  const rootOf = (place: number): number => {
    let at = place
    // Halves the path on the way: a chain of 100,000 is walked in nearly constant time from then on.
    while (parents[at] !== at) at = parents[at] = parents[parents[at]!]!
    return at
  }
  for (const [place, { index, interactsWith }] of tasks.entries())
    for (const other of interactsWith) {
      const otherPlace = placeOf.get(other)
      if (otherPlace === undefined) throw new RangeError(`Task ${index} interacts with task ${other}, which does not exist.`)
      const [mine, theirs] = [rootOf(place), rootOf(otherPlace)]
      // The lower place wins, so that the answer doesn't depend on who named whom.
      parents[Math.max(mine, theirs)] = Math.min(mine, theirs)
    }
  const byRoot = new Map<number, number[]>()
  for (const [place, { index }] of tasks.entries()) {
    const root = rootOf(place)
    const members = byRoot.get(root)
    if (members) members.push(index)
    else byRoot.set(root, [index])
  }
  const components = [...byRoot.values()]
  for (const members of components) members.sort((a, b) => a - b)
  return components.toSorted((a, b) => b.length - a.length || a[0]! - b[0]!)
}

function assign(components: readonly number[][], children: number): number[][] {
  const assignment: number[][] = Array.from({ length: children }, () => [])
  const loads = Array.from({ length: children }, () => 0)
  for (const [place, { length }] of components.entries()) {
    let least = 0
    for (let child = 1; child < children; child++) if (loads[child]! < loads[least]!) least = child
    assignment[least]!.push(place)
    loads[least]! += length
  }
  return assignment
}
