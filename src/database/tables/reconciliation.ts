import { index, integer, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core'
import { verdictRows, verdicts } from '../../domain/verdict.ts'

export const reconciliationStates = ['PENDING', 'WAITING', 'DONE', 'FAILED'] as const

/** What reconcileMigrations made of one attempt to move one virtual machine. Written by its workflow alone, once it was asked for. */
export const reconciliations = sqliteTable(
  'reconciliations',
  {
    id: text().primaryKey(),
    /** The engine that runs it: another control plane on this database leaves it alone. */
    engineId: text().notNull(),
    /** Where the records are: the destination. */
    cloudId: text().notNull(),
    uniqueId: text().notNull(),
    name: text(),
    migrationId: text().notNull(),
    attempt: integer().notNull(),
    /** Grows each time that it is taken up again after its end. */
    run: integer().notNull().default(1),
    state: text({ enum: reconciliationStates }).notNull(),
    verdict: text({ enum: verdicts }).notNull(),
    row: text({ enum: verdictRows }).notNull(),
    /** The last look's sentence: what it waits for, why it failed, or null. */
    problem: text(),
    /** Sentences, in order. */
    done: text({ mode: 'json' }).$type<string[]>().notNull().default([]),
    /** The source was found under this attempt's fence: written before the fence is taken away, so that a crash in between doesn't leave the source off. */
    startOwed: integer({ mode: 'boolean' }).notNull().default(false),
    /** False: the destination went live on somebody's word that the source is dead, so a source that appears is fenced. */
    sourceFenced: integer({ mode: 'boolean' }).notNull().default(false),
    /** Whose wish it is; null where the control plane took it up by itself. */
    tokenId: text(),
    createdAt: integer({ mode: 'timestamp_ms' }).notNull(),
    updatedAt: integer({ mode: 'timestamp_ms' }).notNull(),
    endedAt: integer({ mode: 'timestamp_ms' }),
  },
  (table) => [
    uniqueIndex('reconciliations_attempt').on(table.cloudId, table.uniqueId, table.migrationId, table.attempt),
    index('reconciliations_state').on(table.state),
  ],
)
