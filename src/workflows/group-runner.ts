/**
 * Takes a group through its life: starts its members in order, stops those that depend on one that did not make it, and ends with the last. The single writer of its rows.
 *
 * It holds nothing in memory: each look reads the database and does what is missing there, in transactions that may be repeated. Several at once do no harm.
 */
import { and, eq, inArray, isNull } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { migrationGroupMembers, migrationGroups } from '../database/tables/migration-group.ts'
import { migrations } from '../database/tables/migration.ts'
import { virtualMachines } from '../database/tables/topology.ts'
import { PortolanError } from '../domain/errors.ts'
import { groupEnd, isGroupEnded, isMemberEnded, type GroupState } from '../domain/migration-group.ts'
import { isSteerable, readGroup, type GroupRow, type Member } from './group-facts.ts'
import type { MigrationStart } from './migration-start.ts'
import { wait } from './wait.ts'

export interface GroupRunner {
  /** Works on the group for a slice of time. Null once it has ended, else the next step's name. Rejects on faults of the database: ask again. */
  advance(groupId: string): Promise<string | null>
  close(): Promise<void>
}

/** So many members may be at their pre-flight at once: the others are started as these move on, so that a thousand don't ask their cloud at one time. */
const mostInPreFlight = 16
/** So many members on one host may wait for a slot: more of them would only ask for their turn again and again, and those on another host are kept from nothing. */
const mostInQueue = 16

export function createGroupRunner(dependencies: {
  database: Database
  start: MigrationStart
  /** Hands a stored migration to the engine. Must not throw. */
  submit: (migrationId: string) => Promise<void>
  timings: { sliceMs: number; pollMs: number }
}): GroupRunner {
  const { database, start, submit, timings } = dependencies
  const shutdown = new AbortController()
  const running = new Set<Promise<unknown>>()

  /** True once it has ended. */
  async function look(groupId: string): Promise<boolean> {
    const found = await readGroup(database, groupId)
    if (!found) throw new Error(`There is no group ${groupId}.`)
    const { group, members } = found
    if (isGroupEnded(group.state)) return true
    for (const member of members) if (mustStop(group, member)) await cancel(member.migrationId!)
    if (group.desired === 'RUN') await startMembers(group, members)
    return settle(groupId)
  }

  async function startMembers(group: GroupRow, members: Member[]): Promise<void> {
    const unstarted = members.filter(({ migrationId, state }) => migrationId === null && !isMemberEnded(state))
    if (unstarted.length === 0) return
    const waiting = members.filter(({ migrationId, state }) => migrationId !== null && state === 'WAITING_FOR_SLOT')
    let inPreFlight = members.filter(isInPreFlight).length
    const hostOf = await hostsOf([...unstarted, ...waiting])
    const inQueue = new Map<string, number>()
    const count = (member: Member) => inQueue.set(hostOf(member), (inQueue.get(hostOf(member)) ?? 0) + 1)
    waiting.forEach(count)
    for (const member of unstarted) {
      if (inPreFlight >= mostInPreFlight) return
      if ((inQueue.get(hostOf(member)) ?? 0) >= mostInQueue || !(await startMember(group, member))) continue
      inPreFlight++
      count(member)
    }
  }

  async function hostsOf(members: Member[]): Promise<(member: Member) => string> {
    const ids = members.map(({ request }) => request.sourceVirtualMachineId)
    const { id, hostId } = virtualMachines
    const rows = await database.select({ id, hostId }).from(virtualMachines).where(inArray(id, ids))
    const hosts = new Map(rows.map((row) => [row.id, row.hostId]))
    return ({ request }) => hosts.get(request.sourceVirtualMachineId) ?? ''
  }

  async function cancel(migrationId: string): Promise<void> {
    await database.transaction(
      async (tx) => {
        const [migration] = await tx.select().from(migrations).where(eq(migrations.id, migrationId))
        if (migration && migration.desired !== 'CANCEL' && isSteerable(migration))
          await tx.update(migrations).set({ desired: 'CANCEL', updatedAt: new Date() }).where(eq(migrations.id, migrationId))
      },
      [{ topic: 'MIGRATION', subject: migrationId }],
    )
  }

  /** False where it could not be started. */
  async function startMember({ id: groupId, cutoverPolicy }: GroupRow, member: Member): Promise<boolean> {
    const changed = [{ topic: 'MIGRATION_GROUP' as const, subject: groupId }]
    const own = and(eq(migrationGroupMembers.id, member.id), isNull(migrationGroupMembers.migrationId))
    try {
      // When it may cut over is asked of the group once it is ready.
      const migration = await start.prepare({ ...member.request, cutoverPolicy }, null)
      const inserted = await database.transaction(async (tx) => {
        const [group] = await tx.select().from(migrationGroups).where(eq(migrationGroups.id, groupId))
        const [unstarted] = await tx.select().from(migrationGroupMembers).where(own)
        if (group?.desired !== 'RUN' || isGroupEnded(group.state) || !unstarted) return false
        await migration.insert(tx)
        await tx
          .update(migrationGroupMembers)
          .set({ migrationId: migration.id, refusalCode: null, refusalMessage: null, refusalRemedy: null })
          .where(own)
        return true
      }, changed)
      if (inserted) await submit(migration.id)
      return inserted
    } catch (error) {
      if (!(error instanceof PortolanError)) throw error
      const { code, message, remedy } = error
      if (code === member.refusalCode && message === member.refusalMessage) return false
      await database.write(
        (orm) => [
          orm.update(migrationGroupMembers).set({ refusalCode: code, refusalMessage: message, refusalRemedy: remedy }).where(own),
          orm.update(migrationGroups).set({ updatedAt: new Date() }).where(eq(migrationGroups.id, groupId)),
        ],
        changed,
      )
      return false
    }
  }

  /** Writes the group's state where it is another now. */
  async function settle(groupId: string): Promise<boolean> {
    const seen = await standing(database, groupId)
    if (!seen.isNew) return seen.end !== null
    // Read again: a member may have been retried since.
    return database.transaction(
      async (tx) => {
        const { state, end } = await standing(tx, groupId)
        const now = new Date()
        await tx
          .update(migrationGroups)
          .set({ state, updatedAt: now, ...(end && { endedAt: now }) })
          .where(eq(migrationGroups.id, groupId))
        return end !== null
      },
      [{ topic: 'MIGRATION_GROUP', subject: groupId }],
    )
  }

  async function slice(groupId: string): Promise<string | null> {
    const until = performance.now() + timings.sliceMs
    // A failure may have come between a member's row and its submission. To submit again is a no-op.
    const members = (await readGroup(database, groupId))?.members ?? []
    for (const { migrationId, migration } of members) if (migrationId && migration?.state === 'PENDING') await submit(migrationId)
    do {
      if (await look(groupId)) return null
      await wait(timings.pollMs, shutdown.signal)
    } while (performance.now() < until)
    return 'WATCH'
  }

  return {
    async advance(groupId) {
      const mine = slice(groupId)
      running.add(mine)
      try {
        return await mine
      } finally {
        running.delete(mine)
      }
    },
    async close() {
      shutdown.abort(new Error('The control plane is ending; the group goes on when it is back.'))
      await Promise.allSettled(running)
    },
  }
}

/** The state that it should be in, and whether that is another than the one written. */
async function standing(database: Pick<Database, 'select'>, groupId: string) {
  const { group, members } = (await readGroup(database, groupId))!
  const end = groupEnd(
    group.desired,
    members.map(({ state }) => state),
  )
  const state: GroupState = end ?? (group.desired === 'PAUSE' ? 'PAUSED' : 'RUNNING')
  return { state, end, isNew: state !== group.state }
}

function mustStop({ desired }: GroupRow, { state, stoppedBy, migrationId }: Member): boolean {
  return migrationId !== null && !isMemberEnded(state) && (desired === 'CANCEL' || stoppedBy !== null)
}

function isInPreFlight({ state, migration }: Member): boolean {
  return (
    !isMemberEnded(state) && (migration?.state === 'PENDING' || (migration?.phase === 'PRE_FLIGHT' && migration.direction === 'FORWARD'))
  )
}
