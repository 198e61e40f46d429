/**
 * Children that are forked before a job asks for them, and stand still until one does. Which there are is read from the clouds themselves, so they are found again after a crash:
 * their ids tell what they are, and what bounds them. One that a job has taken is among the job's children, and no more among these.
 */
import { createHash, randomUUID } from 'node:crypto'
import { and, eq, gt, inArray } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { jobChildren } from '../database/tables/job.ts'
import { parentVmCopies, parentVms } from '../database/tables/parent-vm.ts'
import type { ChildDescription, ChildLimits, PluginLog } from '../plugin-sdk/index.ts'
import { canonicalJson } from './canonical-json.ts'
import { usualChildLimits } from './child-limits.ts'
import type { CloudConnections } from './cloud-connections.ts'
import { failureOf } from './failure.ts'
import { forkingClouds, type ForkingCloud } from './job-clouds.ts'
import { copyId } from './parent-vm-runner.ts'
import { wait } from './wait.ts'

interface CopyKey {
  cloudId: string
  /** As the cloud knows the parent. */
  parentId: string
}

export interface PausedChildren {
  /** From now on there are as many as are wished. */
  begin(): void
  /** How many stand ready, as last looked at. */
  ready(copy: CopyKey): number
  /** The id of one with these limits, which is no more among these, and still paused; null where none is ready. */
  take(copy: CopyKey, limits: ChildLimits): string | null
  /** Ends those of a parent that is about to be deleted there. */
  drain(copy: CopyKey, signal: AbortSignal): Promise<void>
  /** Ends all. */
  close(): Promise<void>
}

interface Wish extends CopyKey {
  parentVmId: string
  generation: number
  count: number
  limits: ChildLimits
}

const idPrefix = 'paused-'
/** Between two looks at the clouds where nothing was taken and nothing else was wished: some may have died, or grown old. */
const lookMs = 30_000
/** Of its lifetime, which counts from its fork, a job is left the rest. */
const mostOfLifetimeSpent = 0.25
/** By then it is among the children of the job that took it. */
const forgetTakenMs = 10 * 60_000
const drainTimeoutMs = 10_000

export function createPausedChildren(dependencies: {
  database: Database
  connections: CloudConnections
  timings: { pollMs: number }
  log: PluginLog
}): PausedChildren {
  const { database, timings, log } = dependencies
  const closing = new AbortController()
  const pools = new Map<string, { cloudId: string; ids: string[] }>()
  /** By jobs of this process, and when: one that is taken while the cloud is looked at doesn't come back. */
  const taken = new Map<string, number>()
  let seen = ''
  let lookedAt = -Infinity
  let last: Promise<unknown> = Promise.resolve()

  function inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = last.then(work)
    last = turn.catch(() => {})
    return turn
  }

  async function keep(): Promise<void> {
    const { signal } = closing
    while (!signal.aborted)
      try {
        const wishes = await readWishes()
        const now = canonicalJson(wishes)
        if (now !== seen || performance.now() - lookedAt > lookMs) {
          await inTurn(() => look(wishes, signal))
          seen = now
          lookedAt = performance.now()
        }
        await wait(timings.pollMs, signal)
      } catch (error) {
        if (signal.aborted) return
        log('warn', `Paused children can't be looked after now; it is tried again: ${failureOf(error).message}`)
        await wait(lookMs, signal).catch(() => {})
      }
  }

  async function readWishes(): Promise<Wish[]> {
    const rows = await database
      .select({ parent: parentVms, cloudId: parentVmCopies.cloudId })
      .from(parentVms)
      .innerJoin(parentVmCopies, and(eq(parentVmCopies.parentVmId, parentVms.id), eq(parentVmCopies.generation, parentVms.generation)))
      .where(and(eq(parentVms.state, 'READY'), eq(parentVmCopies.state, 'READY'), gt(parentVms.pausedChildren, 0)))
    return rows.map(({ parent, cloudId }) => ({
      cloudId,
      parentId: copyId(parent),
      parentVmId: parent.id,
      generation: parent.generation,
      count: parent.pausedChildren,
      limits: usualChildLimits(parent.recipe),
    }))
  }

  async function look(wishes: readonly Wish[], signal: AbortSignal): Promise<void> {
    const now = performance.now()
    for (const [childId, takenAt] of taken) if (now - takenAt > forgetTakenMs) taken.delete(childId)
    const cloudIds = await cloudsOf(wishes)
    if (cloudIds.length === 0) return
    for (const cloud of await forkingClouds(dependencies, cloudIds, signal)) {
      const here = wishes.filter(({ cloudId }) => cloudId === cloud.cloudId)
      const ours = await unclaimed(await cloud.fork.listChildren({ signal }))
      const kept = new Set<string>()
      for (const wish of here) for (const id of await fill(cloud, wish, ours, signal)) kept.add(id)
      for (const { childId, parentId } of ours)
        if (!kept.has(childId) && !taken.has(childId)) await remove(cloud, { cloudId: cloud.cloudId, parentId }, childId, signal)
    }
  }

  /** The first look is for what an earlier run of the control plane has left. */
  async function cloudsOf(wishes: readonly Wish[]): Promise<string[]> {
    const copies = seen === '' ? await database.selectDistinct({ cloudId: parentVmCopies.cloudId }).from(parentVmCopies) : wishes
    return [...new Set([...copies.map(({ cloudId }) => cloudId), ...[...pools.values()].map(({ cloudId }) => cloudId)])]
  }

  async function unclaimed(children: readonly ChildDescription[]): Promise<ChildDescription[]> {
    const ours = children.filter(({ childId }) => childId.startsWith(idPrefix))
    if (ours.length === 0) return []
    const claimed = await database
      .select({ id: jobChildren.id })
      .from(jobChildren)
      .where(
        inArray(
          jobChildren.id,
          ours.map(({ childId }) => childId),
        ),
      )
    return ours.filter(({ childId }) => !claimed.some(({ id }) => id === childId))
  }

  /** Gives those that stay. */
  async function fill(cloud: ForkingCloud, wish: Wish, ours: readonly ChildDescription[], signal: AbortSignal): Promise<string[]> {
    const pool = poolOf(wish)
    const fit = ours.filter(
      ({ childId, parentId, state, startedAt }) =>
        parentId === wish.parentId &&
        state === 'PAUSED' &&
        childId.startsWith(idStart(wish.limits)) &&
        !taken.has(childId) &&
        Date.now() - Date.parse(startedAt) < wish.limits.maxLifetimeMs * mostOfLifetimeSpent,
    )
    pool.splice(0, pool.length, ...fit.slice(0, wish.count).map(({ childId }) => childId))
    await writeCount(wish, pool.length)
    while (pool.length < wish.count && !signal.aborted) {
      const childId = `${idStart(wish.limits)}${randomUUID()}`
      try {
        const { parentId, limits } = wish
        await cloud.fork.forkChild({ operationId: `fork-${childId}`, parentId, childId, limits, paused: true, signal })
        pool.push(childId)
      } catch (error) {
        signal.throwIfAborted()
        log('info', `No further child of ${wish.parentId} can stand ready at ${cloud.name}: ${failureOf(error).message}`)
        break
      }
    }
    await writeCount(wish, pool.length)
    return [...pool]
  }

  async function remove({ fork }: ForkingCloud, copy: CopyKey, childId: string, signal: AbortSignal): Promise<void> {
    const pool = poolOf(copy)
    if (pool.includes(childId)) pool.splice(pool.indexOf(childId), 1)
    await fork.deleteChild({ operationId: `delete-${childId}`, childId, signal })
  }

  async function writeCount({ parentVmId, generation, cloudId }: Wish, pausedChildren: number): Promise<void> {
    const copy = and(
      eq(parentVmCopies.parentVmId, parentVmId),
      eq(parentVmCopies.generation, generation),
      eq(parentVmCopies.cloudId, cloudId),
    )
    const [row] = await database.select({ pausedChildren: parentVmCopies.pausedChildren }).from(parentVmCopies).where(copy)
    if (row && row.pausedChildren !== pausedChildren)
      await database.write(
        (orm) => [orm.update(parentVmCopies).set({ pausedChildren }).where(copy)],
        [{ topic: 'PARENT_VM', subject: parentVmId }],
      )
  }

  function poolOf({ cloudId, parentId }: CopyKey): string[] {
    const key = `${cloudId}/${parentId}`
    const pool = pools.get(key) ?? { cloudId, ids: [] }
    pools.set(key, pool)
    return pool.ids
  }

  async function drainNow(cloud: ForkingCloud, copy: CopyKey | null, signal: AbortSignal): Promise<void> {
    for (const { childId, parentId } of await unclaimed(await cloud.fork.listChildren({ signal })))
      if ((copy === null || copy.parentId === parentId) && !taken.has(childId))
        await remove(cloud, { cloudId: cloud.cloudId, parentId }, childId, signal)
  }

  let keeping: Promise<void> | null = null
  return {
    begin: () => void (keeping ??= keep()),
    ready: (copy) => poolOf(copy).length,
    take(copy, limits) {
      const pool = poolOf(copy)
      const at = pool.findIndex((childId) => childId.startsWith(idStart(limits)))
      const [childId] = at === -1 ? [] : pool.splice(at, 1)
      if (childId === undefined) return null
      taken.set(childId, performance.now())
      lookedAt = -Infinity
      return childId
    },
    async drain(copy, signal) {
      await inTurn(async () => {
        const [cloud] = await forkingClouds(dependencies, [copy.cloudId], signal)
        if (cloud) await drainNow(cloud, copy, signal)
      })
    },
    async close() {
      closing.abort(new Error('The control plane is ending.'))
      await keeping
      const signal = AbortSignal.timeout(drainTimeoutMs)
      const cloudIds = [...new Set([...pools.values()].map(({ cloudId }) => cloudId))]
      for (const cloud of cloudIds.length > 0 ? await forkingClouds(dependencies, cloudIds, signal).catch(() => []) : [])
        await drainNow(cloud, null, signal).catch((error: unknown) =>
          log('warn', `Paused children stay at ${cloud.name} until the control plane is back, or their time is over: ${String(error)}`),
        )
    },
  }
}

/** Those with other limits are of another kind. */
function idStart(limits: ChildLimits): string {
  return `${idPrefix}${createHash('sha256').update(canonicalJson(limits)).digest('hex').slice(0, 8)}-`
}
