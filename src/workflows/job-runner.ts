/**
 * Takes a job through its life: chooses the parent, forks the children, has their operating environment run the tasks, and removes them. The single writer of its rows.
 *
 * What is under way is held in this process only; what ended is in the database. So a restart removes the children that are left, forks others, and runs what
 * hadn't ended: at most the tasks in flight run twice.
 */
import { inArray } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { hosts } from '../database/tables/topology.ts'
import { isJobEnded, isTaskEnded, type ParentHashes } from '../domain/job.ts'
import { partition } from '../domain/job-partition.ts'
import type { ParentRecipe } from '../domain/parent-vm.ts'
import { runJob } from '../job-environment/job-environment.ts'
import type { PluginLog } from '../plugin-sdk/index.ts'
import { createBackgroundRuns } from './background-runs.ts'
import type { CloudConnections } from './cloud-connections.ts'
import { failureOf } from './failure.ts'
import { createJobChildren } from './job-children.ts'
import { createJobParents, type Place } from './job-parents.ts'
import { reportInto } from './job-report.ts'
import { createJobStore, type Gathering, type JobRow, type JobTaskRow } from './job-store.ts'
import { copyId } from './parent-vm-runner.ts'
import type { ChildImage } from './parent-image.ts'
import type { PausedChildren } from './paused-children.ts'
import { wait } from './wait.ts'

export interface JobRunner {
  /** Works on the job for a slice of time. Null once it has ended, else the next step's name. Rejects on faults of the database: ask again. */
  advance(jobId: string): Promise<string | null>
  close(): Promise<void>
}

const mostChildren = 256
/** Children a core, where the job leaves their number open. */
const childrenPerCore = 2
const removalAttempts = 30
const memoryEveryMs = 1_000

export function createJobRunner(dependencies: {
  database: Database
  connections: CloudConnections
  pausedChildren: Pick<PausedChildren, 'ready' | 'take' | 'yieldRoom' | 'drain'>
  /** What children boot from where nothing forks. Throws PortolanError. */
  childImage: (recipe: ParentRecipe, signal: AbortSignal) => Promise<ChildImage>
  timings: { sliceMs: number; pollMs: number }
  log: PluginLog
}): JobRunner {
  const { database, connections, timings, log } = dependencies
  const store = createJobStore(database)
  const runs = createBackgroundRuns(timings.sliceMs)
  const parents = createJobParents({ ...dependencies, store })
  const children = createJobChildren({ ...dependencies, store })

  async function run(jobId: string, shutdown: AbortSignal): Promise<void> {
    const job = await store.read(jobId)
    if (isJobEnded(job.state)) return
    await removeChildren(jobId, shutdown)
    await store.resetTasks(jobId)
    const cancel = new AbortController()
    const watching = watchForCancel(jobId, cancel, AbortSignal.any([shutdown, cancel.signal]))
    try {
      await work(job, AbortSignal.any([shutdown, cancel.signal]))
      await end(jobId, { state: 'SUCCEEDED', problemCode: null, problemMessage: null, problemRemedy: null }, shutdown)
    } catch (error) {
      shutdown.throwIfAborted()
      if (cancel.signal.aborted) return await end(jobId, { state: 'CANCELLED' }, shutdown)
      const { code, message, remedy } = failureOf(error)
      await end(jobId, { state: 'FAILED', problemCode: code, problemMessage: message, problemRemedy: remedy }, shutdown)
    } finally {
      cancel.abort()
      await watching
    }
  }

  async function watchForCancel(jobId: string, cancel: AbortController, signal: AbortSignal): Promise<void> {
    while (!signal.aborted)
      try {
        if ((await store.read(jobId)).desired === 'CANCEL') return cancel.abort(new Error('The job was cancelled.'))
        await wait(timings.pollMs, signal)
      } catch (error) {
        if (signal.aborted) return
        log('warn', `Whether the job ${jobId} is to be cancelled could not be read; it is read again: ${String(error)}`)
        await wait(1_000, signal).catch(() => {})
      }
  }

  async function end(jobId: string, patch: Partial<JobRow>, shutdown: AbortSignal): Promise<void> {
    await removeChildren(jobId, shutdown)
    await store.resetTasks(jobId)
    await store.write(jobId, { ...patch, endedAt: new Date() }, [{ kind: 'STATE_CHANGED', message: `The job is ${patch.state}.` }])
    await hashParent(jobId, shutdown)
    await parents.removeOutdated(await store.read(jobId), shutdown)
  }

  /** Whoever asks is told whether the parent is what it was; nobody has to wait for it. */
  async function hashParent(jobId: string, signal: AbortSignal): Promise<void> {
    const { parentShaBefore, parentVmId, parentGeneration } = await store.read(jobId)
    if (!parentShaBefore || parentVmId === null || parentGeneration === null) return
    const parentShaAfter: Record<string, ParentHashes> = {}
    for (const cloudId of Object.keys(parentShaBefore))
      try {
        const { fork } = await connections.connection(cloudId, signal)
        if (fork)
          parentShaAfter[cloudId] = await fork.hashParent({ parentId: copyId({ id: parentVmId, generation: parentGeneration }), signal })
      } catch (error) {
        signal.throwIfAborted()
        log('warn', `The parent VM of the job ${jobId} could not be hashed: ${String(error)}`)
        return
      }
    await store.write(jobId, { parentShaAfter })
  }

  /** Nothing of a job outlives it: children of which nobody knows whether they are gone are asked for again and again. */
  async function removeChildren(jobId: string, signal: AbortSignal): Promise<void> {
    for (const child of await store.liveChildren(jobId))
      for (let attempt = 1; ; attempt++)
        try {
          await children.remove(child, signal)
          await store.putChild({ ...child, state: 'DELETED', endedAt: new Date() })
          break
        } catch (error) {
          signal.throwIfAborted()
          const { code, message } = failureOf(error)
          // A cloud that was disconnected can't be asked any more.
          if (code === 'NOT_FOUND' || attempt === removalAttempts) {
            const lossReason = `It could not be removed, and ends at the latest when its time is over: ${message}`
            await store.putChild(
              { ...child, state: 'LOST', lossReason, endedAt: new Date() },
              { kind: 'NOTICE', message: lossReason, childId: child.id },
            )
            break
          }
          await wait(1_000, signal)
        }
  }

  async function work(job: JobRow, signal: AbortSignal): Promise<void> {
    const { request, id: jobId } = job
    const rows = await store.tasks(jobId)
    const { recipe, places } = await parents.choose(jobId, signal)
    const open = rows.filter(({ state }) => !isTaskEnded(state))
    const components = componentsOf(rows)
    const openComponents = new Set(open.map(({ component }) => component)).size
    const room = places.reduce((sum, place) => sum + place.room, 0)
    const useful = (await coresOf(places)) * childrenPerCore
    const count = Math.min(request.children ?? useful, room, Math.max(openComponents, 1), mostChildren)
    const { oversized } = partition(
      rows.map(({ index, interactsWith }) => ({ index, interactsWith })),
      count,
    )
    await store.write(
      jobId,
      {
        state: 'RUNNING',
        startedAt: job.startedAt ?? new Date(),
        parentShaBefore: job.parentShaBefore ?? hashesOf(places),
        problemCode: null,
        problemMessage: null,
        problemRemedy: null,
        imbalance: oversized
          ? `The largest component has ${oversized.tasks} tasks, more than a child's even share of ${oversized.evenShare}: the job takes as long as these.`
          : null,
      },
      [
        {
          kind: 'PARTITIONED',
          message: `${open.length} tasks in ${openComponents} components for ${count} ${count === 1 ? 'child' : 'children'}${request.children !== null && count < request.children ? ` (${request.children} were asked for: ${places.map(({ bound }) => bound).join(' ')})` : ''}.`,
        },
      ],
    )
    const program = await store.program(jobId)
    const gathering = store.gather(jobId)
    const seats = seatsOf(places, count)
    const lost = new Set<string>()
    const failed = new AbortController()
    gathering.failed.catch((error: unknown) => failed.abort(error))
    const measured = new AbortController()
    const measuring = measureMemory(places, gathering, AbortSignal.any([signal, measured.signal]))
    let ordinal = await store.nextOrdinal(jobId)
    try {
      await runJob({
        components,
        tasks: new Map(open.map(({ index, input, interactsWith }) => [index, { input, interactsWith }])),
        ended: new Set(rows.filter(({ state }) => isTaskEnded(state)).map(({ index }) => index)),
        counted: new Map(open.map(({ index, failures, kills }) => [index, { failures, kills }])),
        retries: request.retries,
        onPoisonTask: request.onPoisonTask,
        program: { ...program, taskTimeoutMs: request.taskTimeoutMs },
        peers: request.privileges.peers,
        children: count,
        start: (seat, startSignal) => children.start(job, seats[seat]!, recipe, () => ordinal++, startSignal),
        remove: (childId) => removeChild(jobId, childId, lost.has(childId) ? 'LOST' : 'DELETED', gathering),
        report: reportInto(gathering, lost),
        signal: AbortSignal.any([signal, failed.signal]),
      })
    } finally {
      measured.abort(new Error('The job is over.'))
      await measuring
      await gathering.close()
    }
  }

  /** A look at the children's memory now and then, for whoever watches. */
  async function measureMemory(places: readonly Place[], gathering: Gathering, signal: AbortSignal): Promise<void> {
    while (!signal.aborted)
      try {
        await wait(memoryEveryMs, signal)
        for (const { fork } of places)
          for (const { childId, memoryBytes } of (await fork?.listChildren({ signal })) ?? [])
            if (memoryBytes > 0) gathering.child(childId, { memoryBytes })
      } catch (error) {
        if (!signal.aborted) log('warn', `The children's memory can't be read now: ${String(error)}`)
      }
  }

  async function removeChild(jobId: string, childId: string, state: 'LOST' | 'DELETED', gathering: Gathering): Promise<void> {
    const [child] = (await store.liveChildren(jobId)).filter(({ id }) => id === childId)
    if (!child) return
    try {
      await children.remove(child, AbortSignal.timeout(60_000))
      gathering.child(childId, { state, endedAt: new Date() })
    } catch (error) {
      // It stays written down as one that lives, and is removed with the job.
      log('warn', `The child ${childId} of the job ${jobId} could not be removed yet: ${String(error)}`)
    }
  }

  async function coresOf(places: readonly Place[]): Promise<number> {
    const rows = await database
      .select({ cpuCount: hosts.cpuCount })
      .from(hosts)
      .where(
        inArray(
          hosts.cloudId,
          places.map(({ cloudId }) => cloudId),
        ),
      )
    return Math.max(
      1,
      rows.reduce((sum, { cpuCount }) => sum + cpuCount, 0),
    )
  }

  return {
    async advance(jobId) {
      return (await runs.advance(jobId, (signal) => run(jobId, signal))) ? null : 'RUN'
    },
    close: () => runs.close(new Error('The control plane is ending; the job goes on when it is back.')),
  }
}

/** Null where nothing is forked. */
function hashesOf(places: readonly Place[]): Record<string, ParentHashes> | null {
  const known = places.flatMap(({ cloudId, hashes }) => (hashes ? [[cloudId, hashes] as const] : []))
  return known.length > 0 ? Object.fromEntries(known) : null
}

function componentsOf(rows: readonly JobTaskRow[]): number[][] {
  const components: number[][] = []
  for (const { index, component } of rows) (components[component] ??= []).push(index)
  return components
}

/** Where each child goes: as many to a cloud as its share of the room, by highest averages (D'Hondt). */
function seatsOf(places: readonly Place[], children: number): Place[] {
  const left = places.map((place) => ({ place, seats: 0 }))
  const share = ({ place: { room }, seats }: { place: Place; seats: number }) => (seats < room ? room / (seats + 1) : 0)
  return Array.from({ length: children }, () => {
    const next = left.reduce((one, other) => (share(other) > share(one) ? other : one))
    next.seats++
    return next.place
  })
}
