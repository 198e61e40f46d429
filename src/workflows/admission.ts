/**
 * The queue for slots (rules: src/domain/admission.ts), shared by all control planes on the database. Any of them decides for all, in one transaction, so that no slot is
 * taken twice; within one control plane the decisions of all that wait are one.
 */
import { and, asc, eq, getColumns, inArray, sql } from 'drizzle-orm'
import type { Database, Transaction } from '../database/client.ts'
import { admissions, controlPlanes } from '../database/tables/admission.ts'
import { migrations } from '../database/tables/migration.ts'
import { decideAdmissions, holdsSlot, type Need, type Standing } from '../domain/admission.ts'
import { PortolanError } from '../domain/errors.ts'
import { isEnded } from '../domain/operator-actions.ts'
import { limitsIn } from './admission-limits.ts'
import { sentenceFor } from './admission-needs.ts'
import { joinQueue } from './admission-queue.ts'
import type { MigrationRow } from './migration-store.ts'
import { wait } from './wait.ts'

export interface Admission {
  /** Queues it, where it isn't yet. Null: it has its slot. Else what it waits for, as a sentence. Throws PortolanError, retryable, when the database can't be asked. */
  admit(migration: Pick<MigrationRow, 'id' | 'attempt'>): Promise<string | null>
  close(): Promise<void>
}

interface Decision {
  standings: Map<string, Standing>
  limitOf: (need: Need) => number
}

export function createAdmission(
  database: Database,
  options: {
    /** Which control plane asks; known once its engine is open. */
    engineId: Promise<string>
    /** A decision is as old as this at most. */
    pollMs: number
    beatMs?: number
    /** A control plane that was not there for so long holds no slots: its migrations stand still until it is back. */
    absentMs?: number
  },
): Admission {
  const { engineId, pollMs, beatMs = 10_000, absentMs = 120_000 } = options
  const closing = new AbortController()
  const queued = new Set<string>()
  let decision: { at: number; made: Promise<Decision> } | null = null

  async function beat(tx: Transaction): Promise<void> {
    const row = { engineId: await engineId, seenAt: now }
    await tx
      .insert(controlPlanes)
      .values(row)
      .onConflictDoUpdate({ target: controlPlanes.engineId, set: { seenAt: now } })
  }

  const beating = (async () => {
    // Without an engine there is no control plane, and nothing to say.
    await engineId.catch(() => closing.abort())
    while (!closing.signal.aborted) {
      // A beat that is missed is made up for by the next; a database that stays away stops the migrations themselves.
      await database.transaction(beat).catch(() => {})
      await wait(beatMs, closing.signal).catch(() => {})
    }
  })()

  async function decide(): Promise<Decision> {
    await engineId
    return database.transaction(async (tx) => {
      await beat(tx)
      const rows = await tx
        .select({
          ...getColumns(admissions),
          migration: getColumns(migrations),
          present: sql<number>`${controlPlanes.seenAt} > ${now} - ${absentMs}`,
        })
        .from(admissions)
        .leftJoin(migrations, and(eq(migrations.id, admissions.migrationId), eq(migrations.attempt, admissions.attempt)))
        .leftJoin(controlPlanes, eq(controlPlanes.engineId, migrations.engineId))
        .orderBy(asc(admissions.sequence))
      const limitOf = await limitsIn(tx)
      const standings = decideAdmissions(
        rows.map(({ migrationId, needs, state, migration, present }) => ({
          migrationId,
          needs: needs as Need[],
          state,
          active:
            Boolean(present) &&
            migration !== null &&
            (state === 'ADMITTED' ? holdsSlot(migration) : holdsSlot(migration) && migration.desired === 'RUN'),
        })),
        limitOf,
      )
      const admitted = rows.filter(({ migrationId, state }) => state === 'WAITING' && standings.get(migrationId)?.admitted)
      if (admitted.length > 0)
        await tx
          .update(admissions)
          .set({ state: 'ADMITTED', admittedAt: new Date() })
          .where(
            inArray(
              admissions.migrationId,
              admitted.map(({ migrationId }) => migrationId),
            ),
          )
      const over = rows.filter(({ migration }) => migration === null || isEnded(migration.state))
      for (const { migrationId, attempt } of over.slice(0, 100))
        await tx.delete(admissions).where(and(eq(admissions.migrationId, migrationId), eq(admissions.attempt, attempt)))
      return { standings, limitOf }
    })
  }

  return {
    async admit({ id, attempt }) {
      try {
        const key = `${id}.${attempt}`
        if (!queued.has(key)) {
          await database.transaction((tx) => joinQueue(tx, id, attempt))
          queued.add(key)
          decision = null
        }
        if (!decision || performance.now() - decision.at >= pollMs) decision = { at: performance.now(), made: decide() }
        const { standings, limitOf } = await decision.made
        const standing = standings.get(id)
        // Its row went with an attempt that was thought to be over: it queues again.
        if (!standing) queued.delete(key)
        if (standing?.admitted) queued.delete(key)
        return standing ? (standing.admitted ? null : await sentenceFor(database, standing, limitOf)) : 'It is put into the queue.'
      } catch (error) {
        decision = null
        throw new PortolanError('INTERNAL', `The queue for slots could not be read: ${String(error)}.`, {
          retryable: true,
          remedy: 'See that the database can be reached; the migration keeps its place.',
        })
      }
    },
    async close() {
      closing.abort()
      await beating
    },
  }
}

/** By the clock of the database: those of several control planes may differ. */
const now = sql`cast(unixepoch('subsec') * 1000 as integer)`
