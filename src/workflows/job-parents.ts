/** Which parent a job's children are forked from, and where. */
import { and, desc, eq, inArray } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { parentVmCopies, parentVms } from '../database/tables/parent-vm.ts'
import { PortolanError, type ErrorCode } from '../domain/errors.ts'
import type { ChildOrigin, JobPrivileges, JobRequest, ParentHashes } from '../domain/job.ts'
import { privilegeDefaults } from '../domain/job-limits.ts'
import type { ParentRecipe } from '../domain/parent-vm.ts'
import { selectParent, type ParentCandidate } from '../domain/parent-selection.ts'
import type { ForkCapability, PluginLog } from '../plugin-sdk/index.ts'
import type { CloudConnections } from './cloud-connections.ts'
import { roomForBooted } from './booted-children.ts'
import { childLimits } from './child-limits.ts'
import { jobClouds, type JobCloud } from './job-clouds.ts'
import type { JobRow, JobStore } from './job-store.ts'
import type { ChildImage } from './parent-image.ts'
import { copyId } from './parent-vm-runner.ts'
import type { PausedChildren } from './paused-children.ts'
import { wait } from './wait.ts'

/** A cloud where children of the parent can be. */
export interface Place extends JobCloud {
  origin: ChildOrigin
  /** Where children are forked. */
  fork: ForkCapability | undefined
  parentId: string
  /** How many children fit there, and what bounds them: one sentence. */
  room: number
  bound: string
  /** As it was saved; null where nothing of it is kept. */
  hashes: ParentHashes | null
}

type ParentRow = typeof parentVms.$inferSelect

export interface JobParents {
  /** The one that the job began with, or the best of those that are ready; and where its children go, with room for one at least. Until there is such a one the job waits. Throws NO_PARENT_MATCHES. */
  choose(jobId: string, signal: AbortSignal): Promise<{ recipe: ParentRecipe; places: Place[] }>
  /** Deletes the copies that the job used where the parent has a newer generation by now: they stayed for its children. */
  removeOutdated(job: JobRow, signal: AbortSignal): Promise<void>
}

export function createJobParents(dependencies: {
  database: Database
  connections: CloudConnections
  store: JobStore
  pausedChildren: Pick<PausedChildren, 'ready' | 'yieldRoom' | 'drain'>
  childImage: (recipe: ParentRecipe, signal: AbortSignal) => Promise<ChildImage>
  log: PluginLog
}): JobParents {
  const { childImage, database, pausedChildren, store } = dependencies

  async function chosenParent(jobId: string, signal: AbortSignal): Promise<{ recipe: ParentRecipe; places: Place[] }> {
    for (;;) {
      const job = await store.read(jobId)
      const clouds = await jobClouds(dependencies, job.request.cloudIds, signal)
      const begun = await begunWith(job, clouds, signal)
      if (begun && begun.places.some(({ room }) => room > 0)) return begun
      if (begun) {
        pausedChildren.yieldRoom(clouds.map(({ cloudId }) => cloudId))
        await waitFor(jobId, 'INSUFFICIENT_CAPACITY', begun.places.map(({ bound }) => bound).join(' '), signal)
      } else await choose(job, clouds, signal)
    }
  }

  async function begunWith(job: JobRow, clouds: readonly JobCloud[], signal: AbortSignal) {
    const { parentVmId: id, parentGeneration: generation, parentRecipe: recipe, request } = job
    if (id === null || generation === null || recipe === null) return null
    const places = await placesOf({ id, generation, recipe }, request, clouds, signal)
    const forked = places.filter(({ origin }) => origin === 'FORKED')
    // Whoever names clouds has children at all of them.
    const used = request.cloudIds === null && forked.length > 0 ? forked : places
    return used.length > 0 ? { recipe, places: used } : null
  }

  /** Writes down the best of those that are ready, or waits a while where one may be ready later. */
  async function choose(job: JobRow, clouds: readonly JobCloud[], signal: AbortSignal): Promise<void> {
    const rows = await database
      .select()
      .from(parentVms)
      .where(inArray(parentVms.state, ['REGISTERED', 'BUILDING', 'READY']))
    const known = await candidates(rows, job.request, clouds, signal)
    const selection = selectParent(known, { ...job.request.requirements, ...job.request })
    if ('parentVmId' in selection) {
      // It may have been deleted, or built anew, since.
      await store.choose(
        job.id,
        rows.find(({ id }) => id === selection.parentVmId)!,
        selection.reason,
      )
      return
    }
    const building = rows.filter(({ state }) => state !== 'READY').map(({ name }) => JSON.stringify(name))
    const { requirement, message } = selection.unmet
    if (building.length === 0 && requirement !== 'CAPACITY')
      throw noParent((await isUnbounded(job.request, rows)) ? `${message} ${unboundedReason}` : message)
    if (requirement === 'CAPACITY') pausedChildren.yieldRoom(clouds.map(({ cloudId }) => cloudId))
    const waitsFor = building.length > 0 ? `It waits for ${building.join(', ')}, which is being built.` : 'It waits for room.'
    await waitFor(job.id, requirement === 'CAPACITY' ? 'INSUFFICIENT_CAPACITY' : 'NO_PARENT_MATCHES', `${message} ${waitsFor}`, signal)
  }

  async function waitFor(jobId: string, problemCode: ErrorCode, problemMessage: string, signal: AbortSignal): Promise<void> {
    await store.write(jobId, { problemCode, problemMessage, problemRemedy: 'Wait, or cancel the job.' })
    await wait(1_000, signal)
  }

  async function candidates(
    rows: readonly ParentRow[],
    request: JobRequest,
    clouds: readonly JobCloud[],
    signal: AbortSignal,
  ): Promise<ParentCandidate[]> {
    const found: ParentCandidate[] = []
    for (const row of rows) {
      if (row.state !== 'READY' || row.offers === null) continue
      const places = await placesOf(row, request, clouds, signal)
      const copies = places.map(({ cloudId, room, origin }) => ({ cloudId, freeChildren: room, childOrigin: origin }))
      found.push({ parentVmId: row.id, name: row.name, recipe: row.recipe, offers: row.offers, createdAt: row.createdAt, copies })
    }
    return found
  }

  /** Whether there would be children that boot, had the job not asked for what nobody bounds for them. */
  async function isUnbounded({ privileges }: JobRequest, rows: readonly ParentRow[]): Promise<boolean> {
    if (isUsual(privileges) || rows.length === 0) return false
    const ids = rows.map(({ id }) => id)
    const booted = and(inArray(parentVmCopies.parentVmId, ids), eq(parentVmCopies.childOrigin, 'BOOTED'), eq(parentVmCopies.state, 'READY'))
    return (await database.select({ id: parentVmCopies.parentVmId }).from(parentVmCopies).where(booted).limit(1)).length > 0
  }

  async function placesOf(
    parent: Pick<ParentRow, 'id' | 'generation' | 'recipe'>,
    { privileges }: JobRequest,
    clouds: readonly JobCloud[],
    signal: AbortSignal,
  ): Promise<Place[]> {
    const copies = await database
      .select()
      .from(parentVmCopies)
      .where(
        and(eq(parentVmCopies.parentVmId, parent.id), eq(parentVmCopies.generation, parent.generation), eq(parentVmCopies.state, 'READY')),
      )
      .orderBy(desc(parentVmCopies.cloudId))
    const places: Place[] = []
    for (const cloud of clouds) {
      const copy = copies.find(({ cloudId }) => cloudId === cloud.cloudId)
      if (!copy) continue
      const parentId = copyId(parent)
      const { fork } = cloud.connection
      if (copy.childOrigin === 'BOOTED') {
        if (!isUsual(privileges)) continue
        const { memoryBytes, cpuCount } = parent.recipe
        const image = await childImage(parent.recipe, signal)
        const room = await roomForBooted(cloud.connection, { image, memoryBytes, cpuCount }, signal)
        places.push({ ...cloud, origin: 'BOOTED', fork: undefined, parentId, ...room, hashes: null })
      } else if (fork) {
        const { children, reason } = await fork.capacity({ parentId, signal })
        const ready = pausedChildren.ready({ cloudId: cloud.cloudId, parentId }, childLimits(privileges, parent.recipe.memoryBytes))
        const room = children + ready
        const bound = ready > 0 ? `${ready} ${ready === 1 ? 'stands' : 'stand'} ready. ${reason}` : reason
        const hashes = { ramSha256: copy.ramSha256 ?? '', diskSha256: copy.diskSha256 ?? '' }
        places.push({ ...cloud, origin: 'FORKED', fork, parentId, room, bound, hashes })
      }
    }
    return places
  }

  async function removeOutdated(
    { parentVmId: id, parentGeneration: generation, parentShaBefore }: JobRow,
    signal: AbortSignal,
  ): Promise<void> {
    if (id === null || generation === null) return
    const [parent] = await database.select().from(parentVms).where(eq(parentVms.id, id))
    if (parent?.state !== 'READY' || parent.generation <= generation) return
    for (const cloudId of Object.keys(parentShaBefore ?? {}))
      try {
        const { fork } = await dependencies.connections.connection(cloudId, signal)
        const parentId = copyId({ id, generation })
        await pausedChildren.drain({ cloudId, parentId }, signal)
        await fork?.deleteParent({ operationId: `delete-${parentId}`, parentId, signal })
        const copy = and(eq(parentVmCopies.parentVmId, id), eq(parentVmCopies.generation, generation), eq(parentVmCopies.cloudId, cloudId))
        await database.write(
          (orm) => [orm.update(parentVmCopies).set({ state: 'DELETED' }).where(copy)],
          [{ topic: 'PARENT_VM', subject: id }],
        )
      } catch (error) {
        signal.throwIfAborted()
        // Another job has children of it, or the cloud can't be asked: the next to end tries again, and the parent's deletion does.
        dependencies.log('info', `An outdated copy of the parent VM ${id} stays for now: ${String(error)}`)
      }
  }

  return { choose: chosenParent, removeOutdated }
}

const unboundedReason =
  'At clouds that can not fork children are booted, and nobody bounds their network, processors, memory and disk: jobs with other privileges than the default ones have none there.'

/** What nobody bounds for a child that is booted. Its lifetime is ended from here. */
function isUsual({ networkId, cpuShare, memoryBytes, diskBytes }: JobPrivileges): boolean {
  return networkId === null && memoryBytes === null && cpuShare === privilegeDefaults.cpuShare && diskBytes === privilegeDefaults.diskBytes
}

function noParent(message: string): PortolanError {
  return new PortolanError('NO_PARENT_MATCHES', `${message} No task was run.`, {
    retryable: false,
    remedy: 'Ask for less, or register a parent VM that offers it: see the query parentVms.',
  })
}
