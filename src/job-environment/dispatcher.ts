/**
 * Which component of a job runs on which child, and what is made of an end. Pure: it is told what happened, and asked what to send next.
 *
 * A component is sent whole and its tasks run at one time; components run one after the other on a child. Of one that was interrupted those tasks run again that
 * haven't ended; what they had met with before is repeated to them (barriers.ts, mailboxes.ts). A result counts the first time only.
 */

/** A child that dies with a task for the third time isn't given it again. */
export const mostKills = 3

/** So much work may wait in a child, in milliseconds of its time: enough to keep it busy while a message is under way, little enough to be left for others. */
const windowMs = 100
const widestWindow = 128

export type PoisonPolicy = 'FAIL' | 'SKIP'

/** A run of a component: its tasks that haven't ended, under a number that grows with each run. */
export interface ComponentRun {
  component: number
  attempt: number
  tasks: readonly number[]
}

/** What an end means for tasks, to be written down. */
export interface Judgement {
  ended: { index: number; end: 'FAILED' | 'SKIPPED'; why: string }[]
  /** The child holds tasks that wait for one that failed: it must be forked anew. */
  replaceChild: boolean
}

export interface Blame {
  kind: 'failed' | 'killed'
  why: string
}

export interface Dispatcher {
  addChild(childId: string): void
  /** Its components are given to others. With `blame`, it counts against the tasks that it was running. */
  removeChild(childId: string, blame: Blame | null): Judgement['ended']
  /** What to send to the child now; empty while it has enough. */
  next(childId: string): ComponentRun[]
  /** False where it counted before, or is of no run that is under way. */
  done(childId: string, index: number, attempt: number, durationMs: number): boolean
  /** Null where it is of no run that is under way there. */
  failed(childId: string, index: number, attempt: number, why: string): Judgement | null
  /** The component that the child is running, with those of its tasks that haven't ended. */
  running(childId: string): (ComponentRun & { startedAtMs: number }) | null
  /** Where the task is under way, or null. */
  childOf(index: number): string | null
  readonly remaining: number
  /** Tasks that no child has. */
  readonly waiting: number
}

interface Child {
  queue: number[]
  sent: (ComponentRun & { left: Set<number>; startedAtMs: number })[]
  averageMs: number | null
}

export function createDispatcher(options: {
  /** Tasks by component, the largest first; a task that has ended in an earlier run of the control plane is left out by `ended`. */
  components: readonly (readonly number[])[]
  ended: ReadonlySet<number>
  /** A task may fail so often and be run again. */
  retries: number
  onPoisonTask: PoisonPolicy
  /** What earlier runs of the control plane have counted. */
  counted: ReadonlyMap<number, { failures: number; kills: number }>
  /** Monotonic, in milliseconds. */
  now: () => number
}): Dispatcher {
  const { components, retries, onPoisonTask, now } = options
  const left = components.map((tasks) => new Set(tasks.filter((index) => !options.ended.has(index))))
  const componentOf = new Map(components.flatMap((tasks, component) => tasks.map((index) => [index, component] as const)))
  const attempts = components.map(() => 0)
  const failures = new Map([...options.counted].map(([index, { failures: count }]) => [index, count]))
  const kills = new Map([...options.counted].map(([index, { kills: count }]) => [index, count]))
  const children = new Map<string, Child>()
  const holder = new Map<number, string>()
  /** Of no child. */
  let free = components.map((_, component) => component).filter((component) => left[component]!.size > 0)
  let remaining = left.reduce((sum, tasks) => sum + tasks.size, 0)

  const load = (child: Child) => child.queue.reduce((sum, component) => sum + left[component]!.size, 0)

  /** Largest first onto the least loaded: again whenever components are without a child, since children come and go. */
  function assign(): void {
    if (children.size === 0 || free.length === 0) return
    const loads = [...children.values()].map((child) => ({
      child,
      tasks: load(child) + sum(child.sent.map(({ left: tasks }) => tasks.size)),
    }))
    const largestFirst = free.toSorted((one, other) => left[other]!.size - left[one]!.size || one - other)
    for (const component of largestFirst) {
      const least = loads.reduce((one, other) => (other.tasks < one.tasks ? other : one))
      least.child.queue.push(component)
      least.tasks += left[component]!.size
    }
    free = []
  }

  /** Of the child that has most left to do, the component that it would come to last. */
  function takeOver(): number | undefined {
    const others = [...children.values()].filter(({ queue }) => queue.length > 0)
    if (others.length === 0) return undefined
    return others.reduce((one, other) => (load(other) > load(one) ? other : one)).queue.pop()
  }

  function release(component: number): void {
    holder.delete(component)
    if (left[component]!.size > 0) free.push(component)
  }

  function poisoned(index: number, end: 'FAILED' | 'SKIPPED', why: string): Judgement['ended'] {
    const tasks = left[componentOf.get(index)!]!
    const ended: Judgement['ended'] = [{ index, end, why }]
    if (end === 'SKIPPED')
      for (const other of tasks)
        if (other !== index) ended.push({ index: other, end, why: `It interacts with task ${index}, which was skipped.` })
    for (const { index: other } of ended) if (tasks.delete(other)) remaining--
    return ended
  }

  function judge(index: number, kind: 'failed' | 'killed', why: string): Judgement['ended'] {
    const counts = kind === 'failed' ? failures : kills
    const count = (counts.get(index) ?? 0) + 1
    counts.set(index, count)
    if (kind === 'failed' ? count <= retries : count < mostKills) return []
    const often = kind === 'failed' ? `Task ${index} failed ${times(count)}` : `Task ${index} ended its child ${times(count)}`
    return poisoned(index, onPoisonTask === 'FAIL' ? 'FAILED' : 'SKIPPED', `${often}: ${why}`)
  }

  return {
    addChild(childId) {
      children.set(childId, { queue: [], sent: [], averageMs: null })
    },
    removeChild(childId, blame) {
      const child = children.get(childId)
      if (!child) return []
      children.delete(childId)
      const ran = child.sent[0]
      const ended =
        blame && ran ? [...ran.left].flatMap((index) => (left[ran.component]!.has(index) ? judge(index, blame.kind, blame.why) : [])) : []
      for (const { component } of child.sent) release(component)
      free.push(...child.queue)
      return ended
    },
    next(childId) {
      const child = children.get(childId)
      if (!child) return []
      assign()
      const wide = child.averageMs === null ? 1 : Math.max(1, Math.min(widestWindow, Math.ceil(windowMs / Math.max(child.averageMs, 0.1))))
      const runs: ComponentRun[] = []
      let waiting = sum(child.sent.map(({ left: tasks }) => tasks.size))
      // Many at a time: a message costs a guest more than a short task does.
      if (waiting > wide / 2) return []
      while (waiting < wide) {
        const component = child.queue.shift() ?? takeOver()
        if (component === undefined) break
        const tasks = [...left[component]!]
        if (tasks.length === 0) continue
        const run = { component, attempt: ++attempts[component]!, tasks }
        child.sent.push({ ...run, left: new Set(tasks), startedAtMs: now() })
        holder.set(component, childId)
        runs.push(run)
        waiting += tasks.length
      }
      return runs
    },
    done(childId, index, attempt, durationMs) {
      const { child, run } = find(childId, index, attempt)
      if (!child || !run?.left.delete(index)) return false
      child.averageMs = child.averageMs === null ? durationMs : child.averageMs * 0.8 + durationMs * 0.2
      const counts = left[run.component]!.delete(index)
      if (counts) remaining--
      if (run.left.size === 0) over(child, run)
      return counts
    },
    failed(childId, index, attempt, why) {
      const { child, run } = find(childId, index, attempt)
      if (!child || !run?.left.delete(index)) return null
      const ended = left[run.component]!.has(index) ? judge(index, 'failed', why) : []
      const othersRun = run.left.size > 0
      if (!othersRun) over(child, run)
      return { ended, replaceChild: othersRun }
    },
    running(childId) {
      const run = children.get(childId)?.sent[0]
      return run ? { component: run.component, attempt: run.attempt, tasks: [...run.left], startedAtMs: run.startedAtMs } : null
    },
    childOf(index) {
      return holder.get(componentOf.get(index) ?? -1) ?? null
    },
    get remaining() {
      return remaining
    },
    get waiting() {
      return sum([...free, ...[...children.values()].flatMap(({ queue }) => queue)].map((component) => left[component]!.size))
    },
  }

  function find(childId: string, index: number, attempt: number): { child?: Child; run?: Child['sent'][number] } {
    const child = children.get(childId)
    const component = componentOf.get(index)
    const run = child?.sent.find((sent) => sent.component === component && sent.attempt === attempt)
    return { ...(child && { child }), ...(run && { run }) }
  }

  /** The next one's time counts from now; what this run left undone goes back. */
  function over(child: Child, run: Child['sent'][number]): void {
    child.sent.splice(child.sent.indexOf(run), 1)
    if (child.sent[0]) child.sent[0].startedAtMs = now()
    release(run.component)
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}

function times(count: number): string {
  return count === 1 ? 'once' : count === 2 ? 'twice' : `${count} times`
}
