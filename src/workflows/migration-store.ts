/** A migration's rows: read by anybody, written by the one workflow that runs it. Each write records the change in the same transaction. */
import { randomUUID } from 'node:crypto'
import { and, asc, desc, eq, ne, sql } from 'drizzle-orm'
import type { Change, Database } from '../database/client.ts'
import { activeMigrations, migrationEvents, migrations, migrationSteps, rounds } from '../database/tables/migration.ts'
import type { MigrationPhase } from '../domain/migration.ts'
import { activityOf } from '../domain/phase-activity.ts'

export type MigrationRow = typeof migrations.$inferSelect
export type StepRow = typeof migrationSteps.$inferSelect
export type RoundRow = typeof rounds.$inferSelect
export interface NewEvent {
  kind: (typeof migrationEvents.$inferSelect)['kind']
  phase?: MigrationPhase
  message: string
}
export type MigrationPatch = Partial<Omit<typeof migrations.$inferInsert, 'id' | 'attempt'>>
export type StepPatch = { phase: MigrationPhase } & Partial<Pick<StepRow, 'switchover' | 'state' | 'result' | 'endedAt'>>

/** Measures of a copy that goes on say nothing where none does. */
export const notCopying = { etaMs: null, rateBytesPerSecond: null, bottleneck: null } as const satisfies MigrationPatch

export interface MigrationStore {
  /** Throws where there is none. */
  read(id: string): Promise<MigrationRow>
  find(id: string): Promise<MigrationRow | null>
  /** Of the present attempt, all switchovers. */
  steps(migration: MigrationRow): Promise<StepRow[]>
  /** One transaction. A step that isn't there is made. */
  write(migration: MigrationRow, what: { patch?: MigrationPatch; step?: StepPatch; round?: RoundRow; events?: NewEvent[] }): Promise<void>
  /** Moves on to `phase` unless the operator cancelled; false then, and nothing was written. */
  enter(migration: MigrationRow, phase: { name: MigrationPhase; timeoutMs: number | null }, events: NewEvent[]): Promise<boolean>
  /** The final write: state, end and the lock's release. The step of a phase that was `refused` goes: whoever tries it again begins anew. */
  end(migration: MigrationRow, patch: MigrationPatch, event: NewEvent, refused?: MigrationPhase): Promise<void>
  /** The other migrations that keep that virtual machine as their copy. */
  othersKeeping(virtualMachineId: string, migration: MigrationRow): Promise<MigrationRow[]>
  /** The newest round of the present attempt. */
  lastRound(migration: MigrationRow): Promise<RoundRow | null>
  /** How long the phase took the last time, of any migration between the same two clouds; null where none took it yet. */
  usualDurationMs(migration: MigrationRow, phase: MigrationPhase): Promise<number | null>
  /** On the wire in all rounds of the migration, or of one attempt. */
  bytesSent(migration: MigrationRow, attempt?: number): Promise<number>
}

export function createMigrationStore(database: Database): MigrationStore {
  async function find(id: string): Promise<MigrationRow | null> {
    const [row] = await database.select().from(migrations).where(eq(migrations.id, id))
    return row ?? null
  }

  return {
    find,
    async read(id) {
      const row = await find(id)
      if (!row) throw new Error(`There is no migration ${id}.`)
      return row
    },
    async steps({ id, attempt }) {
      return database
        .select()
        .from(migrationSteps)
        .where(and(eq(migrationSteps.migrationId, id), eq(migrationSteps.attempt, attempt)))
        .orderBy(asc(migrationSteps.switchover), asc(migrationSteps.startedAt))
    },
    async write(migration, { patch, step, round, events = [] }) {
      await database.write(
        (orm) => [
          orm
            .update(migrations)
            .set({ ...patch, updatedAt: new Date() })
            .where(eq(migrations.id, migration.id)),
          ...(step ? [upsertStep(orm, migration, step)] : []),
          ...(round ? [upsertRound(orm, round)] : []),
          ...events.map((event) => insertEvent(orm, migration, event)),
        ],
        changesOf(migration.id, events),
      )
    },
    async enter(migration, { name: phase, timeoutMs }, events) {
      // Said at once: the first word of the phase's heartbeat comes later.
      const activity = activityOf(phase, { elapsedMs: 0, timeoutMs })
      return database.transaction(
        async (tx) => {
          const [row] = await tx.select({ desired: migrations.desired }).from(migrations).where(eq(migrations.id, migration.id))
          if (row?.desired === 'CANCEL') return false
          await tx
            .update(migrations)
            .set({ phase, problem: null, activity, ...notCopying, updatedAt: new Date() })
            .where(eq(migrations.id, migration.id))
          await upsertStep(tx, migration, { phase, state: 'DOING' })
          for (const event of events) await insertEvent(tx, migration, event)
          return true
        },
        changesOf(migration.id, events),
      )
    },
    async end(migration, patch, event, refused) {
      const now = new Date()
      await database.write(
        (orm) => [
          insertEvent(orm, migration, event),
          orm.delete(activeMigrations).where(eq(activeMigrations.migrationId, migration.id)),
          ...(refused ? [deleteStep(orm, migration, refused)] : []),
          orm
            .update(migrations)
            .set({ ...patch, problem: null, activity: null, ...notCopying, endedAt: now, updatedAt: now })
            .where(eq(migrations.id, migration.id)),
        ],
        changesOf(migration.id, [event]),
      )
    },
    othersKeeping: (virtualMachineId, { id }) =>
      database
        .select()
        .from(migrations)
        .where(and(ne(migrations.id, id), eq(migrations.copyKept, true), eq(migrations.destinationVirtualMachineId, virtualMachineId))),
    async lastRound({ id, attempt }) {
      const [row] = await database
        .select()
        .from(rounds)
        .where(and(eq(rounds.migrationId, id), eq(rounds.attempt, attempt)))
        .orderBy(desc(rounds.round))
        .limit(1)
      return row ?? null
    },
    async usualDurationMs({ sourceCloudId, destinationCloudId }, phase) {
      const [row] = await database
        .select({ startedAt: migrationSteps.startedAt, endedAt: migrationSteps.endedAt })
        .from(migrationSteps)
        .innerJoin(migrations, eq(migrations.id, migrationSteps.migrationId))
        .where(
          and(
            eq(migrationSteps.phase, phase),
            eq(migrationSteps.state, 'DONE'),
            eq(migrations.sourceCloudId, sourceCloudId),
            eq(migrations.destinationCloudId, destinationCloudId),
          ),
        )
        .orderBy(desc(migrationSteps.endedAt))
        .limit(1)
      return row?.endedAt ? row.endedAt.getTime() - row.startedAt.getTime() : null
    },
    async bytesSent({ id }, attempt) {
      const [row] = await database
        .select({ sum: sql<number | null>`sum(${rounds.bytesSent})` })
        .from(rounds)
        .where(and(eq(rounds.migrationId, id), attempt === undefined ? undefined : eq(rounds.attempt, attempt)))
      return row?.sum ?? 0
    },
  }
}

type Orm = Parameters<Parameters<Database['write']>[0]>[0]

function upsertStep(orm: Pick<Orm, 'insert'>, { id, attempt, switchover }: MigrationRow, { phase, ...patch }: StepPatch) {
  return orm
    .insert(migrationSteps)
    .values({ migrationId: id, attempt, switchover, phase, state: 'DOING', startedAt: new Date(), ...patch })
    .onConflictDoUpdate({
      target: [migrationSteps.migrationId, migrationSteps.attempt, migrationSteps.switchover, migrationSteps.phase],
      set: patch,
    })
}

function deleteStep(orm: Pick<Orm, 'delete'>, { id, attempt, switchover }: MigrationRow, phase: MigrationPhase) {
  const { migrationId, attempt: ofAttempt, switchover: ofSwitchover, phase: name } = migrationSteps
  return orm.delete(migrationSteps).where(and(eq(migrationId, id), eq(ofAttempt, attempt), eq(ofSwitchover, switchover), eq(name, phase)))
}

function upsertRound(orm: Pick<Orm, 'insert'>, round: RoundRow) {
  return orm
    .insert(rounds)
    .values(round)
    .onConflictDoUpdate({ target: [rounds.migrationId, rounds.attempt, rounds.round], set: round })
}

function insertEvent(orm: Pick<Orm, 'insert'>, { id, attempt }: MigrationRow, { kind, phase, message }: NewEvent) {
  const next = sql<number>`(select coalesce(max(${migrationEvents.sequence}), 0) + 1 from ${migrationEvents} where ${migrationEvents.migrationId} = ${id})`
  return orm
    .insert(migrationEvents)
    .values({ id: randomUUID(), migrationId: id, attempt, sequence: next, kind, phase: phase ?? null, message, at: new Date() })
}

function changesOf(id: string, events: NewEvent[]): Change[] {
  const change: Change[] = [{ topic: 'MIGRATION', subject: id }]
  return events.length > 0 ? [...change, { topic: 'MIGRATION_EVENT', subject: id }] : change
}
