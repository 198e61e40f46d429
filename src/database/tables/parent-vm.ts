import { sql } from 'drizzle-orm'
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core'
import { childOrigins } from '../../domain/job.ts'
import { copyStates, parentStates, type ParentOffers, type ParentRecipe } from '../../domain/parent-vm.ts'

/** Single writer: its workflow. Mutations insert it, and write `recipe`, `state`, `generation` and `run` when they ask for another run. */
export const parentVms = sqliteTable(
  'parent_vms',
  {
    id: text().primaryKey(),
    name: text().notNull(),
    recipe: text({ mode: 'json' }).$type<ParentRecipe>().notNull(),
    /** SHA-256 of the recipe's canonical JSON. */
    recipeDigest: text().notNull(),
    /** How many children are to stand ready, forked and paused, at each cloud that forks. */
    pausedChildren: integer().notNull().default(0),
    /** From 1; grows with each other recipe. */
    generation: integer().notNull().default(1),
    /** From 1; grows with each thing that its workflow is asked for: to build, to build again, to delete. */
    run: integer().notNull().default(1),
    /** Null until it was warm. */
    offers: text({ mode: 'json' }).$type<ParentOffers>(),
    state: text({ enum: parentStates }).notNull(),
    /** Why it failed, or what stands against what it is about, as a sentence; null where nothing does. */
    problem: text(),
    /** The engine that runs its workflow. */
    engineId: text().notNull(),
    createdAt: integer({ mode: 'timestamp_ms' }).notNull(),
    updatedAt: integer({ mode: 'timestamp_ms' }).notNull(),
  },
  (table) => [
    index('parent_vms_created').on(table.createdAt),
    uniqueIndex('parent_vms_name')
      .on(table.name)
      .where(sql`state <> 'DELETED'`),
  ],
)

/** A parent as it exists at one cloud. Written by its workflow alone, but for `pausedChildren`, which whoever keeps them writes. */
export const parentVmCopies = sqliteTable(
  'parent_vm_copies',
  {
    parentVmId: text().notNull(),
    generation: integer().notNull(),
    cloudId: text().notNull(),
    state: text({ enum: copyStates }).notNull(),
    /** How children come to be there; BOOTED: nothing of it is kept at the cloud. */
    childOrigin: text({ enum: childOrigins }).notNull().default('FORKED'),
    /** What its RAM file takes on that cloud's disk; null until it is saved. */
    memoryBytes: integer(),
    ramSha256: text(),
    diskSha256: text(),
    /** From the start of the boot to warm, in milliseconds; null where it was distributed. */
    bootMs: integer(),
    saveMs: integer(),
    savedAt: integer({ mode: 'timestamp_ms' }),
    problem: text(),
    /** How many stood ready when they were last counted. */
    pausedChildren: integer().notNull().default(0),
  },
  (table) => [primaryKey({ columns: [table.parentVmId, table.generation, table.cloudId] })],
)
