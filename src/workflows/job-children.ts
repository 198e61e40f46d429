/** The children of jobs: forked where the cloud can, else booted; each is written down before it is made, and after it is gone. */
import { randomUUID } from 'node:crypto'
import type { ParentRecipe } from '../domain/parent-vm.ts'
import type { StartedChild } from '../job-environment/job-environment.ts'
import { bootChild, removeBootedChild } from './booted-children.ts'
import { childLimits } from './child-limits.ts'
import type { CloudConnections } from './cloud-connections.ts'
import { failureOf } from './failure.ts'
import type { Place } from './job-parents.ts'
import type { JobChildRow, JobRow, JobStore } from './job-store.ts'
import type { ChildImage } from './parent-image.ts'
import type { PausedChildren } from './paused-children.ts'

export interface JobChildren {
  /** One that stands ready and lives, or else another one. */
  start(job: JobRow, place: Place, recipe: ParentRecipe, nextOrdinal: () => number, signal: AbortSignal): Promise<StartedChild>
  /** Ends it at its cloud; its row is the caller's. Throws what the provider throws. */
  remove(child: JobChildRow, signal: AbortSignal): Promise<void>
}

export function createJobChildren(dependencies: {
  connections: CloudConnections
  store: JobStore
  pausedChildren: Pick<PausedChildren, 'take'>
  childImage: (recipe: ParentRecipe, signal: AbortSignal) => Promise<ChildImage>
}): JobChildren {
  const { connections, store, pausedChildren, childImage } = dependencies

  async function remove({ id, cloudId, origin }: Pick<JobChildRow, 'id' | 'cloudId' | 'origin'>, signal: AbortSignal): Promise<void> {
    const connection = await connections.connection(cloudId, signal)
    if (origin === 'FORKED') await connection.fork?.deleteChild({ operationId: `delete-${id}`, childId: id, signal })
    else await removeBootedChild(connection, id, signal)
  }

  /** The child `ready`, which stands ready, or another one. */
  async function begin(
    { id: jobId, request: { privileges } }: JobRow,
    place: Place,
    recipe: ParentRecipe,
    { ready, ordinal }: { ready: string | null; ordinal: number },
    signal: AbortSignal,
  ): Promise<StartedChild> {
    const { cloudId, origin, parentId } = place
    const limits = childLimits(privileges, recipe.memoryBytes)
    const id = ready ?? randomUUID()
    const name = `child-${ordinal}`
    // Written first: a child that nobody knows of would stay.
    const row = { id, jobId, cloudId, ordinal, origin, wasPaused: ready !== null }
    await store.putChild({ ...row, state: 'FORKING' })
    try {
      if (!place.fork) {
        const { memoryBytes, cpuCount, warmUp } = recipe
        const image = await childImage(recipe, signal)
        const channel = await bootChild(place.connection, { id, image, memoryBytes, cpuCount }, signal)
        return { id, uniqueId: id, channel, name, mac: null, booted: { warmUp, maxLifetimeMs: limits.maxLifetimeMs } }
      }
      const paused = ready !== null
      const { channel, mac } = await place.fork.forkChild({ operationId: `fork-${id}`, parentId, childId: id, limits, paused, signal })
      if (paused) await place.fork.resumeChild({ operationId: `resume-${id}`, childId: id, signal })
      // One that stood ready has a longer id, which ends with a UUID, too.
      return { id, uniqueId: id.slice(-36), channel, name, mac }
    } catch (error) {
      signal.throwIfAborted()
      const lossReason = failureOf(error).message
      await remove(row, signal)
      await store.putChild(
        { ...row, state: 'LOST', lossReason, endedAt: new Date() },
        { kind: 'CHILD_LOST', message: lossReason, childId: id },
      )
      throw error
    }
  }

  return {
    async start(job, place, recipe, nextOrdinal, signal) {
      const limits = childLimits(job.request.privileges, recipe.memoryBytes)
      const ready = place.fork ? pausedChildren.take(place, limits) : null
      if (ready !== null)
        try {
          return await begin(job, place, recipe, { ready, ordinal: nextOrdinal() }, signal)
        } catch {
          signal.throwIfAborted()
          // It died while it stood, as all the others may have: only a fork tells whether a child can be had.
        }
      return begin(job, place, recipe, { ready: null, ordinal: nextOrdinal() }, signal)
    },
    remove,
  }
}
