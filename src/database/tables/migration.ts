import { index, integer, primaryKey, real, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import type { Finding } from '../../domain/finding.ts'
import {
  convergences,
  cutoverPolicies,
  desiredStates,
  migrationDirections,
  migrationPhases,
  migrationStates,
} from '../../domain/migration.ts'
import type { BandwidthSchedule } from '../../domain/bandwidth-schedule.ts'
import type { Downtime } from '../../domain/migration.ts'
import type { MigrationRequest } from '../../domain/migration-request.ts'

export const migrations = sqliteTable(
  'migrations',
  {
    id: text().primaryKey(),
    /** Grows with each retry; records and events carry it. */
    attempt: integer().notNull(),
    /** Grows with each retry, rollback and discard; the engine's key is made of it. */
    run: integer().notNull().default(1),
    /** Over all migrations, given anew to each attempt: of two that moved one machine the later has the greater, whatever the clock said. */
    startOrder: integer().notNull().default(0),
    phaseListVersion: integer().notNull(),
    /** The engine that runs it (see src/engine): another control plane on this database leaves it alone. */
    engineId: text().notNull(),
    state: text({ enum: migrationStates }).notNull(),
    phase: text({ enum: migrationPhases }).notNull(),
    /** FORWARD, or which way the phases are being undone. */
    direction: text({ enum: migrationDirections }).notNull().default('FORWARD'),
    /** Counts the tries to switch over within this attempt, from 1. A voided one is undone back to SYNC. */
    switchover: integer().notNull().default(1),
    /** Switchovers that were voided by what happened in them; a restart of the control plane doesn't count. */
    voidedSwitchovers: integer().notNull().default(0),
    /** What it becomes at the end of the way it is on; COMPLETED when null. */
    endState: text({ enum: ['FAILED', 'CANCELLED', 'ROLLED_BACK'] }),
    desired: text({ enum: desiredStates }).notNull(),
    cutoverPolicy: text({ enum: cutoverPolicies }).notNull(),
    /** Set by cutOverMigration. */
    cutoverRequestedAt: integer({ mode: 'timestamp_ms' }),
    sourceCloudId: text().notNull(),
    destinationCloudId: text().notNull(),
    sourceVirtualMachineId: text().notNull(),
    /** Our row id, once instantiated. */
    destinationVirtualMachineId: text(),
    /** The completed migration whose destination's writes this one carries back to the source that it left; it becomes ROLLED_BACK at this one's end. */
    rollsBackMigrationId: text(),
    /** It has ended undone, and the destination's virtual machine is kept, powered off, with what was copied: for a retry, or until it is discarded. */
    copyKept: integer({ mode: 'boolean' }).notNull().default(false),
    request: text({ mode: 'json' }).$type<MigrationRequest>().notNull(),
    permittedDowntimeMs: integer().notNull(),
    estimatedRemainingMs: integer(),
    /** Null until there is something to judge by. */
    convergence: text({ enum: convergences }),
    etaMs: integer(),
    rateBytesPerSecond: real(),
    bottleneck: text(),
    /** How fast the guest changes its disk, as the round under way saw it. */
    changeRateBytesPerSecond: real(),
    /** The operator's newest word on the limit; null: the request's. */
    bandwidth: text({ mode: 'json' }).$type<BandwidthSchedule>(),
    diskBytes: integer(),
    bytesSent: integer().notNull().default(0),
    trackingMode: text({ enum: ['TRACEFS', 'RESCAN'] }),
    /** DIRECT or RELAY, once the agents are connected. */
    via: text({ enum: ['DIRECT', 'RELAY'] }),
    /** Hex roots of both disks at the comparison, once compared. */
    sourceRoot: text(),
    destinationRoot: text(),
    downtime: text({ mode: 'json' }).$type<Downtime>(),
    findings: text({ mode: 'json' }).$type<Finding[]>().notNull(),
    /** What the present phase does, since when and until when at the latest, as a sentence; written again while it lasts. */
    activity: text(),
    /** When the destination went live. What is written there from then on is what a rollback loses. */
    exposedAt: integer({ mode: 'timestamp_ms' }),
    /** What it waits for at present or tries again, as a sentence. Null when nothing is in its way. */
    problem: text(),
    errorCode: text(),
    errorMessage: text(),
    errorRemedy: text(),
    errorRetryable: integer({ mode: 'boolean' }),
    createdAt: integer({ mode: 'timestamp_ms' }).notNull(),
    startedAt: integer({ mode: 'timestamp_ms' }),
    endedAt: integer({ mode: 'timestamp_ms' }),
    updatedAt: integer({ mode: 'timestamp_ms' }).notNull(),
  },
  (table) => [index('migrations_created').on(table.createdAt), index('migrations_state').on(table.state)],
)

export const rounds = sqliteTable(
  'rounds',
  {
    migrationId: text().notNull(),
    attempt: integer().notNull(),
    round: integer().notNull(),
    mode: text({ enum: ['FULL', 'CHANGED'] }).notNull(),
    state: text({ enum: ['RUNNING', 'DONE', 'FAILED'] }).notNull(),
    scannedBytes: integer().notNull(),
    totalBytes: integer().notNull(),
    changedBytes: integer().notNull(),
    bytesSent: integer().notNull(),
    verifiedBytes: integer().notNull(),
    durationMs: integer(),
    startedAt: integer({ mode: 'timestamp_ms' }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.migrationId, table.attempt, table.round] })],
)

/** What the workflow did of each phase: its own memory, from which it goes on after any crash. Not for users. */
export const migrationSteps = sqliteTable(
  'migration_steps',
  {
    migrationId: text().notNull(),
    attempt: integer().notNull(),
    switchover: integer().notNull(),
    phase: text({ enum: migrationPhases }).notNull(),
    state: text({ enum: ['DOING', 'DONE', 'UNDOING', 'UNDONE'] }).notNull(),
    /** What later phases and the undo need of it. */
    result: text({ mode: 'json' }).$type<Record<string, unknown>>(),
    startedAt: integer({ mode: 'timestamp_ms' }).notNull(),
    endedAt: integer({ mode: 'timestamp_ms' }),
  },
  (table) => [primaryKey({ columns: [table.migrationId, table.attempt, table.switchover, table.phase] })],
)

/** What happened, append-only, in order of `sequence` within a migration. Upserted by (migrationId, attempt, sequence). */
export const migrationEvents = sqliteTable(
  'migration_events',
  {
    id: text().primaryKey(),
    migrationId: text().notNull(),
    attempt: integer().notNull(),
    sequence: integer().notNull(),
    kind: text({ enum: ['PHASE_STARTED', 'PHASE_ENDED', 'PHASE_FAILED', 'ROUND_ENDED', 'STATE_CHANGED', 'NOTICE', 'UNDO'] }).notNull(),
    phase: text({ enum: migrationPhases }),
    message: text().notNull(),
    at: integer({ mode: 'timestamp_ms' }).notNull(),
  },
  (table) => [index('migration_events_migration').on(table.migrationId, table.sequence)],
)

/** One active migration a VM: the primary key is the lock. */
export const activeMigrations = sqliteTable('active_migrations', {
  virtualMachineId: text().primaryKey(),
  migrationId: text().notNull(),
})

/** Certificate authorities and the like; sealed, deleted when the migration ends. */
export const migrationSecrets = sqliteTable('migration_secrets', { migrationId: text().primaryKey(), sealed: text().notNull() })
