/**
 * Builds a parent VM at every cloud, and removes it: boots it from its image, lets it warm up, and has it saved. Where nothing forks it is booted, too, to see whether it gets warm, and nothing of it is kept.
 * The single writer of its rows.
 */
import { createHash } from 'node:crypto'
import { and, eq, lt, ne } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { parentVmCopies, parentVms } from '../database/tables/parent-vm.ts'
import type { ParentOffers } from '../domain/parent-vm.ts'
import { openChildSession } from '../job-environment/child-session.ts'
import { warmUp, type Warmed } from '../job-environment/warm-up.ts'
import type { ForkCapability, ParentImage, PluginLog } from '../plugin-sdk/index.ts'
import { createBackgroundRuns } from './background-runs.ts'
import { bootChild, removeBootedChild } from './booted-children.ts'
import type { CloudConnections } from './cloud-connections.ts'
import { failureOf } from './failure.ts'
import { jobClouds, type ForkingCloud, type JobCloud } from './job-clouds.ts'
import type { ChildImage } from './parent-image.ts'
import { parseParentVmRun } from './parent-vm-workflow.ts'
import type { PausedChildren } from './paused-children.ts'
import { wait } from './wait.ts'

export interface ParentVmRunner {
  /** Works on it for a slice of time. Null once nothing is left to do for that run, else the next step's name. */
  advance(key: string): Promise<string | null>
  close(): Promise<void>
}

type ParentRow = typeof parentVms.$inferSelect

/** Between two attempts to delete what has children still. */
const retryMs = 2_000

export function createParentVmRunner(dependencies: {
  database: Database
  connections: CloudConnections
  /** Throws PortolanError. */
  image: (recipe: ParentRow['recipe'], signal: AbortSignal) => Promise<ParentImage>
  /** What children boot from where nothing forks. Throws PortolanError. */
  childImage: (recipe: ParentRow['recipe'], signal: AbortSignal) => Promise<ChildImage>
  pausedChildren: Pick<PausedChildren, 'drain'>
  timings: { sliceMs: number }
  log: PluginLog
}): ParentVmRunner {
  const { childImage, database, image, pausedChildren, timings, log } = dependencies
  const runs = createBackgroundRuns(timings.sliceMs)
  const changed = (id: string) => [{ topic: 'PARENT_VM' as const, subject: id }]

  const patch = (id: string, run: number, values: Partial<ParentRow>) =>
    database.write(
      (orm) => [
        orm
          .update(parentVms)
          .set({ ...values, updatedAt: new Date() })
          .where(and(eq(parentVms.id, id), eq(parentVms.run, run))),
      ],
      changed(id),
    )
  const patchCopy = (parent: ParentRow, cloudId: string, values: Partial<typeof parentVmCopies.$inferInsert>) => {
    const key = { parentVmId: parent.id, generation: parent.generation, cloudId }
    return database.write(
      (orm) => [
        orm
          .insert(parentVmCopies)
          .values({ ...key, state: 'BUILDING', ...values })
          .onConflictDoUpdate({ target: [parentVmCopies.parentVmId, parentVmCopies.generation, parentVmCopies.cloudId], set: values }),
      ],
      changed(parent.id),
    )
  }

  async function build(parent: ParentRow, signal: AbortSignal): Promise<void> {
    await patch(parent.id, parent.run, { state: 'BUILDING', problem: null })
    const clouds = await jobClouds(dependencies, null, signal)
    if (clouds.length === 0) {
      const problem = 'No cloud is connected, or none can be reached now. Connect one, then register the parent VM again.'
      return patch(parent.id, parent.run, { state: 'FAILED', problem })
    }
    const problems: string[] = []
    for (const cloud of clouds) {
      const { fork } = cloud.connection
      try {
        if (fork) await buildCopy(parent, { ...cloud, fork }, await image(parent.recipe, signal), signal)
        else await tryBooting(parent, cloud, signal)
      } catch (error) {
        signal.throwIfAborted()
        const problem = failureOf(error).message
        problems.push(`${cloud.name}: ${problem}`)
        await patchCopy(parent, cloud.cloudId, { state: 'FAILED', problem })
        await fork?.deleteParent({ operationId: `delete-${copyId(parent)}`, parentId: copyId(parent) }).catch(() => {})
      }
    }
    const ready = problems.length < clouds.length
    await patch(parent.id, parent.run, { state: ready ? 'READY' : 'FAILED', problem: problems.join(' ') || null })
    if (ready) await removeCopies(parent, 'OLDER', signal)
  }

  async function buildCopy(parent: ParentRow, { cloudId, fork }: ForkingCloud, made: ParentImage, signal: AbortSignal): Promise<void> {
    const parentId = copyId(parent)
    const there = (await fork.describeParents({ signal })).find((saved) => saved.parentId === parentId)
    const [row] = await database.select().from(parentVms).where(eq(parentVms.id, parent.id))
    if (there && row?.offers) return saved(parent, cloudId, there, null)
    // One that a killed control plane had begun is of no use: what it said while it warmed up is lost.
    await fork.deleteParent({ operationId: `restart-${parentId}`, parentId, signal })
    await patchCopy(parent, cloudId, { state: 'BUILDING', problem: null })
    const since = performance.now()
    const { memoryBytes, cpuCount } = parent.recipe
    const { channel } = await fork.bootParent({ operationId: `boot-${parentId}`, parentId, image: made, memoryBytes, cpuCount, signal })
    const session = await openChildSession({ channel, signal, onMessage: () => {} })
    try {
      const offers = offersOf(await warmUp(session, parent.recipe.warmUp))
      const bootMs = Math.round(performance.now() - since)
      await patch(parent.id, parent.run, { offers })
      await saved(parent, cloudId, await fork.saveParent({ operationId: `save-${parentId}`, parentId, signal }), bootMs)
    } finally {
      session.close()
    }
  }

  /** As each child will, and as one that a killed control plane has left: the same id. */
  async function tryBooting(parent: ParentRow, { cloudId, connection }: JobCloud, signal: AbortSignal): Promise<void> {
    const id = trialId(parent, cloudId)
    await removeBootedChild(connection, id, signal)
    if (await isReady(parent, cloudId)) return
    await patchCopy(parent, cloudId, { state: 'BUILDING', childOrigin: 'BOOTED', problem: null })
    const since = performance.now()
    const { memoryBytes, cpuCount } = parent.recipe
    try {
      const channel = await bootChild(connection, { id, image: await childImage(parent.recipe, signal), memoryBytes, cpuCount }, signal)
      const session = await openChildSession({ channel, signal, onMessage: () => {} })
      try {
        await patch(parent.id, parent.run, { offers: offersOf(await warmUp(session, parent.recipe.warmUp)) })
      } finally {
        session.close()
      }
      await patchCopy(parent, cloudId, { state: 'READY', bootMs: Math.round(performance.now() - since) })
    } finally {
      await removeBootedChild(connection, id)
    }
  }

  async function isReady({ id, generation }: ParentRow, cloudId: string): Promise<boolean> {
    const copy = and(eq(parentVmCopies.parentVmId, id), eq(parentVmCopies.generation, generation), eq(parentVmCopies.cloudId, cloudId))
    const [row] = await database.select({ state: parentVmCopies.state }).from(parentVmCopies).where(copy)
    return row?.state === 'READY'
  }

  function saved(
    parent: ParentRow,
    cloudId: string,
    copy: Awaited<ReturnType<ForkCapability['saveParent']>>,
    bootMs: number | null,
  ): Promise<void> {
    const { ramFileBytes, ramSha256, diskSha256, saveMs, savedAt } = copy
    return patchCopy(parent, cloudId, {
      state: 'READY',
      memoryBytes: ramFileBytes,
      ramSha256,
      diskSha256,
      saveMs: Math.round(saveMs),
      savedAt: new Date(savedAt),
      ...(bootMs !== null && { bootMs }),
    })
  }

  /** Copies with children stay for now. True where none is left. */
  async function removeCopies(parent: ParentRow, which: 'OLDER' | 'ALL', signal: AbortSignal): Promise<boolean> {
    const copies = await database
      .select()
      .from(parentVmCopies)
      .where(
        and(
          eq(parentVmCopies.parentVmId, parent.id),
          ne(parentVmCopies.state, 'DELETED'),
          ...(which === 'OLDER' ? [lt(parentVmCopies.generation, parent.generation)] : []),
        ),
      )
    let left = 0
    for (const { cloudId, generation } of copies)
      try {
        const connection = await dependencies.connections.connection(cloudId, signal)
        const { fork } = connection
        if (!fork) await removeBootedChild(connection, trialId({ id: parent.id, generation }, cloudId), signal)
        const parentId = copyId({ id: parent.id, generation })
        await pausedChildren.drain({ cloudId, parentId }, signal)
        await fork?.deleteParent({ operationId: `delete-${parentId}`, parentId, signal })
        await patchCopy({ ...parent, generation }, cloudId, { state: 'DELETED' })
      } catch (error) {
        signal.throwIfAborted()
        const { code, message } = failureOf(error)
        // A cloud that was disconnected can't be asked any more.
        if (code === 'NOT_FOUND') await patchCopy({ ...parent, generation }, cloudId, { state: 'DELETED' })
        else {
          left++
          if (which === 'ALL') await patch(parent.id, parent.run, { problem: message })
        }
      }
    return left === 0
  }

  return {
    async advance(key) {
      const { parentVmId, run } = parseParentVmRun(key)
      const [parent] = await database.select().from(parentVms).where(eq(parentVms.id, parentVmId))
      if (!parent || parent.run !== run) return null
      // Another recipe, or its deletion, was asked for while it was being built.
      await runs.stop(
        (other) => other !== key && parseParentVmRun(other).parentVmId === parentVmId,
        new Error('Something else was asked for.'),
      )
      if (parent.state === 'REGISTERED' || parent.state === 'BUILDING') {
        const ended = await runs.advance(key, (signal) =>
          build(parent, signal).catch(async (error: unknown) => {
            signal.throwIfAborted()
            log('warn', `The parent VM ${parent.name} could not be built: ${String(error)}`)
            await patch(parent.id, run, { state: 'FAILED', problem: failureOf(error).message })
          }),
        )
        return ended ? null : 'BUILD'
      }
      if (parent.state !== 'DELETING') return null
      let gone = false
      const ended = await runs.advance(key, async (signal) => {
        gone = await removeCopies(parent, 'ALL', signal)
        if (gone) await patch(parent.id, run, { state: 'DELETED', problem: null })
        else await wait(retryMs, signal)
      })
      return ended && gone ? null : 'DELETE'
    },
    close: () => runs.close(new Error('The control plane is ending; the parent VM is built when it is back.')),
  }
}

/** What the parent is called at its clouds. */
export function copyId({ id, generation }: { id: string; generation: number }): string {
  return `${id}-${generation}`
}

/** A UUID, the same for the same copy. */
function trialId(parent: { id: string; generation: number }, cloudId: string): string {
  const hex = createHash('sha256')
    .update(`${copyId(parent)}/${cloudId}`)
    .digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

function offersOf({ hello, ready }: Warmed): ParentOffers {
  return {
    runtime: hello.runtime === 'node' ? 'NODE' : 'PYTHON',
    runtimeVersion: hello.version,
    libraries: { ...hello.libraries, ...ready.libraries },
  }
}
