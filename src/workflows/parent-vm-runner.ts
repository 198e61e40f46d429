/** Builds a parent VM at every cloud that forks, and removes it: boots it from its image, lets it warm up, and has it saved. The single writer of its rows. */
import { and, eq, lt, ne } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { parentVmCopies, parentVms } from '../database/tables/parent-vm.ts'
import type { ParentOffers } from '../domain/parent-vm.ts'
import { openChildSession } from '../job-environment/child-session.ts'
import type { ForkCapability, ParentImage, PluginLog } from '../plugin-sdk/index.ts'
import type { FromChild } from '../transfer/child-messages.ts'
import { createBackgroundRuns } from './background-runs.ts'
import type { CloudConnections } from './cloud-connections.ts'
import { failureOf } from './failure.ts'
import { forkingClouds, type ForkingCloud } from './forking-clouds.ts'
import { parseParentVmRun } from './parent-vm-workflow.ts'
import type { PausedChildren } from './paused-children.ts'
import { wait } from './wait.ts'

export interface ParentVmRunner {
  /** Works on it for a slice of time. Null once nothing is left to do for that run, else the next step's name. */
  advance(key: string): Promise<string | null>
  close(): Promise<void>
}

type ParentRow = typeof parentVms.$inferSelect

/** From the start of the boot to the runtime's first word, under emulation. */
const bootTimeoutMs = 240_000
const warmUpTimeoutMs = 300_000
/** Between two attempts to delete what has children still. */
const retryMs = 2_000

export function createParentVmRunner(dependencies: {
  database: Database
  connections: CloudConnections
  /** Throws PortolanError. */
  image: (recipe: ParentRow['recipe'], signal: AbortSignal) => Promise<ParentImage>
  pausedChildren: Pick<PausedChildren, 'drain'>
  timings: { sliceMs: number }
  log: PluginLog
}): ParentVmRunner {
  const { database, image, pausedChildren, timings, log } = dependencies
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
    const clouds = await forkingClouds(dependencies, null, signal)
    if (clouds.length === 0) {
      const problem =
        'No connected cloud can fork virtual machines. Connect one whose plugin has the capability `fork`, then register the parent VM again.'
      return patch(parent.id, parent.run, { state: 'FAILED', problem })
    }
    const made = await image(parent.recipe, signal)
    const problems: string[] = []
    for (const cloud of clouds)
      try {
        await buildCopy(parent, cloud, made, signal)
      } catch (error) {
        signal.throwIfAborted()
        const problem = failureOf(error).message
        problems.push(`${cloud.name}: ${problem}`)
        await patchCopy(parent, cloud.cloudId, { state: 'FAILED', problem })
        await cloud.fork.deleteParent({ operationId: `delete-${copyId(parent)}`, parentId: copyId(parent) }).catch(() => {})
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
    const { memoryBytes, cpuCount, warmUp } = parent.recipe
    const { channel } = await fork.bootParent({ operationId: `boot-${parentId}`, parentId, image: made, memoryBytes, cpuCount, signal })
    const session = await openChildSession({ path: channel.path, signal, onMessage: () => {} })
    try {
      const hello = await session.expect((message) => message.type === 'HELLO', bootTimeoutMs, 'hello')
      session.send({ type: 'WARM_UP', program: warmUp })
      const answer = await session.expect(isWarmUpAnswer, warmUpTimeoutMs, 'that it is warm')
      if (answer.type === 'WARM_UP_FAILED') throw new Error(`The warm-up program failed: ${answer.message}`)
      const bootMs = Math.round(performance.now() - since)
      await patch(parent.id, parent.run, { offers: offersOf(hello, answer) })
      await saved(parent, cloudId, await fork.saveParent({ operationId: `save-${parentId}`, parentId, signal }), bootMs)
    } finally {
      session.close()
    }
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
        const { fork } = await dependencies.connections.connection(cloudId, signal)
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

function isWarmUpAnswer(message: FromChild): message is Extract<FromChild, { type: 'READY' | 'WARM_UP_FAILED' }> {
  return message.type === 'READY' || message.type === 'WARM_UP_FAILED'
}

function offersOf(hello: Extract<FromChild, { type: 'HELLO' }>, ready: Extract<FromChild, { type: 'READY' }>): ParentOffers {
  return {
    runtime: hello.runtime === 'node' ? 'NODE' : 'PYTHON',
    runtimeVersion: hello.version,
    libraries: { ...hello.libraries, ...ready.libraries },
  }
}
