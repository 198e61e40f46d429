/**
 * Children that are forked before a job asks for them, and stand still until one does. Which there are is read from the clouds themselves, so they are found again after a crash:
 * their ids tell what they are, and what bounds them. One that a job has taken is among the job's children, and no more among these.
 *
 * A parent's are kept by the control plane that built it, and given to its own jobs alone: several may share the database, or a cloud. What other parents have is left alone.
 */
import { createHash, randomUUID } from 'node:crypto'
import type { Database } from '../database/client.ts'
import type { ChildDescription, ChildLimits, PluginLog } from '../plugin-sdk/index.ts'
import { canonicalJson } from './canonical-json.ts'
import type { CloudConnections } from './cloud-connections.ts'
import { failureOf } from './failure.ts'
import { forkingClouds, type ForkingCloud } from './job-clouds.ts'
import { createPausedChildStore, type CopyKey, type Wish } from './paused-child-store.ts'
import { wait } from './wait.ts'

export interface PausedChildren {
  /** From now on there are as many as are wished, of the parents that this engine built. */
  begin(engineId: string): void
  /** How many with these limits stand ready, as last looked at. */
  ready(copy: CopyKey, limits: ChildLimits): number
  /** The id of one with these limits, which is no more among these, and still paused; null where none is ready. */
  take(copy: CopyKey, limits: ChildLimits): string | null
  /** A job that can't use those there are waits for room: there are none at these clouds for a while. */
  yieldRoom(cloudIds: readonly string[]): void
  /** Ends those of a parent that is about to be deleted there. */
  drain(copy: CopyKey, signal: AbortSignal): Promise<void>
  /** Ends all. */
  close(): Promise<void>
}

const idPrefix = 'paused-'
/** Between two looks at the clouds where nothing was taken and nothing else was wished: some may have died, or grown old. */
const lookMs = 30_000
/** Of its lifetime, which counts from its fork, a job is left the rest. */
const mostOfLifetimeSpent = 0.25
/** From the last time that a job waited for room. */
const yieldMs = 20_000
/** By then it is among the children of the job that took it. */
const forgetTakenMs = 10 * 60_000
const drainTimeoutMs = 10_000

export function createPausedChildren(dependencies: {
  database: Database
  connections: CloudConnections
  timings: { pollMs: number }
  log: PluginLog
}): PausedChildren {
  const { timings, log } = dependencies
  const store = createPausedChildStore(dependencies.database)
  const closing = new AbortController()
  /** Ids of those that can be taken. */
  const pools = new Map<string, string[]>()
  /** Clouds that may have some: at first all that have a parent, for what an earlier run of the control plane has left. */
  let places: Set<string> | null = null
  /** By jobs of this process, and when: one that is taken while the cloud is looked at doesn't come back. */
  const taken = new Map<string, number>()
  /** Clouds at which there are to be none, and until when. */
  const yielding = new Map<string, number>()
  let seen = ''
  let lookedAt = -Infinity
  const turns = new Map<string, Promise<unknown>>()

  /** One thing at a time is done at a cloud. */
  function inTurn<Result>(cloudId: string, work: () => Promise<Result>): Promise<Result> {
    const turn = (turns.get(cloudId) ?? Promise.resolve()).then(work)
    turns.set(
      cloudId,
      turn.catch(() => {}),
    )
    return turn
  }

  async function keep(engineId: string): Promise<void> {
    const { signal } = closing
    while (!signal.aborted)
      try {
        const wishes = await store.wishes(engineId)
        const now = canonicalJson(wishes)
        if (now !== seen || performance.now() - lookedAt > lookMs) {
          // Before it: one that is taken meanwhile asks for the next look.
          lookedAt = performance.now()
          await look(engineId, wishes, signal)
          seen = now
        }
        await wait(timings.pollMs, signal)
      } catch (error) {
        if (signal.aborted) return
        log('warn', `Paused children can't be looked after now; it is tried again: ${failureOf(error).message}`)
        await wait(lookMs, signal).catch(() => {})
      }
  }

  async function look(engineId: string, wishes: readonly Wish[], signal: AbortSignal): Promise<void> {
    const now = performance.now()
    for (const [childId, takenAt] of taken) if (now - takenAt > forgetTakenMs) taken.delete(childId)
    places ??= new Set((await store.copies(engineId)).map(({ cloudId }) => cloudId))
    for (const { cloudId } of wishes) places.add(cloudId)
    if (places.size === 0) return
    const reached = await forkingClouds(dependencies, [...places], signal)
    await Promise.all(
      reached.map(async (cloud) => {
        const yields = performance.now() < (yielding.get(cloud.cloudId) ?? 0)
        const here = yields ? [] : wishes.filter(({ cloudId }) => cloudId === cloud.cloudId)
        try {
          await inTurn(cloud.cloudId, () => lookAt(engineId, cloud, here, signal))
          if (here.length === 0 && !yields) places?.delete(cloud.cloudId)
        } catch (error) {
          signal.throwIfAborted()
          log('warn', `Paused children can't be looked after at ${cloud.name} now; it is tried again: ${failureOf(error).message}`)
        }
      }),
    )
  }

  async function lookAt(engineId: string, cloud: ForkingCloud, wishes: readonly Wish[], signal: AbortSignal): Promise<void> {
    const ours = await oursOf(engineId, await unclaimed(await cloud.fork.listChildren({ signal })))
    for (const key of pools.keys())
      if (key.startsWith(`${cloud.cloudId}/`) && !wishes.some((wish) => keyOf(wish) === key)) pools.delete(key)
    const kept = new Set<string>()
    for (const wish of wishes) for (const id of await fill(cloud, wish, ours, signal)) kept.add(id)
    for (const { childId, parentId } of ours) if (!kept.has(childId) && !taken.has(childId)) await remove(cloud, parentId, childId, signal)
    await store.writeCounts(engineId, cloud.cloudId, count)
  }

  /** Those that stand ready, or were to. */
  async function unclaimed(children: readonly ChildDescription[]): Promise<ChildDescription[]> {
    const paused = children.filter(({ childId }) => childId.startsWith(idPrefix))
    const ids = await store.unclaimed(paused.map(({ childId }) => childId))
    return paused.filter(({ childId }) => ids.has(childId))
  }

  async function oursOf(engineId: string, children: readonly ChildDescription[]): Promise<ChildDescription[]> {
    if (children.length === 0) return []
    const parentIds = new Set((await store.copies(engineId)).map(({ parentId }) => parentId))
    return children.filter(({ parentId }) => parentIds.has(parentId))
  }

  /** Gives those that stay. */
  async function fill(cloud: ForkingCloud, wish: Wish, ours: readonly ChildDescription[], signal: AbortSignal): Promise<string[]> {
    const pool = pools.get(keyOf(wish)) ?? []
    pools.set(keyOf(wish), pool)
    const fit = ours.filter(
      ({ childId, parentId, state, startedAt }) =>
        parentId === wish.parentId &&
        state === 'PAUSED' &&
        childId.startsWith(idStart(wish.limits)) &&
        !taken.has(childId) &&
        Date.now() - Date.parse(startedAt) < wish.limits.maxLifetimeMs * mostOfLifetimeSpent,
    )
    pool.splice(0, pool.length, ...fit.slice(0, wish.count).map(({ childId }) => childId))
    const { parentId, limits } = wish
    // The children that are there may still grow: what they were promised isn't free.
    let room = pool.length < wish.count ? (await cloud.fork.capacity({ parentId, signal })).children : 0
    while (pool.length < wish.count && room-- > 0) {
      const childId = `${idStart(limits)}${randomUUID()}`
      try {
        await cloud.fork.forkChild({ operationId: `fork-${childId}`, parentId, childId, limits, paused: true, signal })
        pool.push(childId)
      } catch (error) {
        signal.throwIfAborted()
        log('info', `No further child of ${parentId} can stand ready at ${cloud.name}: ${failureOf(error).message}`)
        break
      }
    }
    return [...pool]
  }

  async function remove({ cloudId, fork }: ForkingCloud, parentId: string, childId: string, signal: AbortSignal): Promise<void> {
    const pool = pools.get(keyOf({ cloudId, parentId }))
    if (pool?.includes(childId)) pool.splice(pool.indexOf(childId), 1)
    await fork.deleteChild({ operationId: `delete-${childId}`, childId, signal })
  }

  const count = (copy: CopyKey) => pools.get(keyOf(copy))?.length ?? 0

  async function end(cloud: ForkingCloud, children: readonly ChildDescription[], signal: AbortSignal): Promise<void> {
    for (const { childId, parentId } of children) if (!taken.has(childId)) await remove(cloud, parentId, childId, signal)
  }

  async function endAll(engineId: string): Promise<void> {
    const signal = AbortSignal.timeout(drainTimeoutMs)
    for (const cloud of places?.size ? await forkingClouds(dependencies, [...places], signal).catch(() => []) : [])
      try {
        await end(cloud, await oursOf(engineId, await unclaimed(await cloud.fork.listChildren({ signal }))), signal)
        await store.writeCounts(engineId, cloud.cloudId, count)
      } catch (error) {
        log('warn', `Paused children stay at ${cloud.name} until the control plane is back, or their time is over: ${String(error)}`)
      }
  }

  let begun: { engineId: string; keeping: Promise<void> } | null = null
  return {
    begin: (engineId) => void (begun ??= { engineId, keeping: keep(engineId) }),
    ready: (copy, limits) => (pools.get(keyOf(copy)) ?? []).filter((childId) => childId.startsWith(idStart(limits))).length,
    take(copy, limits) {
      const pool = pools.get(keyOf(copy)) ?? []
      const at = pool.findIndex((childId) => childId.startsWith(idStart(limits)))
      const [childId] = at === -1 ? [] : pool.splice(at, 1)
      if (childId === undefined) return null
      taken.set(childId, performance.now())
      lookedAt = -Infinity
      return childId
    },
    yieldRoom(cloudIds) {
      const now = performance.now()
      for (const cloudId of cloudIds) {
        if (now >= (yielding.get(cloudId) ?? 0)) lookedAt = -Infinity
        yielding.set(cloudId, now + yieldMs)
      }
    },
    async drain({ cloudId, parentId }, signal) {
      signal.throwIfAborted()
      const stopped = Promise.withResolvers<never>()
      const stop = () => stopped.reject(signal.reason)
      signal.addEventListener('abort', stop, { once: true })
      const work = inTurn(cloudId, async () => {
        signal.throwIfAborted()
        const [cloud] = await forkingClouds(dependencies, [cloudId], signal)
        if (!cloud) return
        const children = await unclaimed(await cloud.fork.listChildren({ signal }))
        await end(
          cloud,
          children.filter((child) => child.parentId === parentId),
          signal,
        )
      })
      // Whoever is before it at the cloud may take long.
      await Promise.race([work, stopped.promise]).finally(() => signal.removeEventListener('abort', stop))
    },
    async close() {
      closing.abort(new Error('The control plane is ending.'))
      await begun?.keeping
      if (begun) await endAll(begun.engineId)
    },
  }
}

function keyOf({ cloudId, parentId }: CopyKey): string {
  return `${cloudId}/${parentId}`
}

/** Those with other limits are of another kind. */
function idStart(limits: ChildLimits): string {
  return `${idPrefix}${createHash('sha256').update(canonicalJson(limits)).digest('hex').slice(0, 8)}-`
}
