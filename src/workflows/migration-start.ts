/** What it takes to store a new migration: the same for one that is asked for by itself and for a member of a group. */
import { randomUUID } from 'node:crypto'
import { eq, or, sql } from 'drizzle-orm'
import type { Transaction } from '../database/client.ts'
import { activeMigrations, migrations } from '../database/tables/migration.ts'
import { virtualMachines } from '../database/tables/topology.ts'
import { PortolanError } from '../domain/errors.ts'
import type { MigrationRequest } from '../domain/migration-request.ts'
import { pendingActivity } from '../domain/phase-activity.ts'
import { joinQueue } from './admission-queue.ts'
import type { MigrationCheck } from './migration-check.ts'
import type { MigrationRow } from './migration-store.ts'
import { newestCarryBackVersion, newestVersion, phaseList, type PhaseLists } from './phase-lists.ts'

export interface PreparedMigration {
  id: string
  /** Writes the row and the lock on the virtual machine. Throws PortolanError ALREADY_MIGRATING, and then the transaction has to be undone. */
  insert(tx: Transaction): Promise<void>
}

export interface MigrationStart {
  /**
   * Throws PortolanError for a request that names what isn't there or makes no sense. `cutoverAt`: not before then. `rollsBack`: its destination is the source that this
   * completed migration left.
   */
  prepare(request: MigrationRequest, cutoverAt: Date | null, rollsBack?: MigrationRow): Promise<PreparedMigration>
}

export function createMigrationStart(dependencies: {
  check: Pick<MigrationCheck, 'resolve'>
  phaseLists: PhaseLists
  engineId: string
}): MigrationStart {
  const { check, phaseLists, engineId } = dependencies
  return {
    async prepare(request, cutoverAt, rollsBack) {
      const { sourceCloudId } = await check.resolve(request)
      const version = rollsBack ? newestCarryBackVersion : newestVersion(phaseLists)
      const first = phaseList(phaseLists, version)[0]!.name
      const id = randomUUID()
      return {
        id,
        async insert(tx) {
          const now = new Date()
          await lockVirtualMachine(tx, request.sourceVirtualMachineId, id)
          await tx.insert(migrations).values({
            id,
            attempt: 1,
            startOrder: nextStartOrder,
            phaseListVersion: version,
            engineId,
            state: 'PENDING',
            activity: pendingActivity,
            phase: first,
            desired: 'RUN',
            cutoverPolicy: request.cutoverPolicy,
            cutoverRequestedAt: cutoverAt,
            sourceCloudId,
            destinationCloudId: request.destinationCloudId,
            sourceVirtualMachineId: request.sourceVirtualMachineId,
            ...(rollsBack && { rollsBackMigrationId: rollsBack.id, destinationVirtualMachineId: rollsBack.sourceVirtualMachineId }),
            request,
            permittedDowntimeMs: request.permittedDowntimeMs,
            findings: [],
            createdAt: now,
            updatedAt: now,
          })
          // Now, and not after pre-flight: those that were started first are first.
          await joinQueue(tx, id, 1)
        },
      }
    },
  }
}

/** In the write that begins an attempt, under the machine's lock: so one that moved the machine before has a lower one. */
export const nextStartOrder = sql<number>`(select coalesce(max(${migrations.startOrder}), 0) + 1 from ${migrations})`

export async function lockVirtualMachine(tx: Transaction, virtualMachineId: string, migrationId: string): Promise<void> {
  await requireUnlocked(tx, virtualMachineId)
  await tx.insert(activeMigrations).values({ virtualMachineId, migrationId })
}

/** One place may be connected twice, and a virtual machine known by two rows: what counts is its unique id. Throws PortolanError ALREADY_MIGRATING. */
export async function requireUnlocked(tx: Pick<Transaction, 'select'>, virtualMachineId: string): Promise<void> {
  const [vm] = await tx.select({ uniqueId: virtualMachines.uniqueId }).from(virtualMachines).where(eq(virtualMachines.id, virtualMachineId))
  const [active] = await tx
    .select({ migrationId: activeMigrations.migrationId })
    .from(activeMigrations)
    .leftJoin(virtualMachines, eq(virtualMachines.id, activeMigrations.virtualMachineId))
    .where(or(eq(activeMigrations.virtualMachineId, virtualMachineId), vm && eq(virtualMachines.uniqueId, vm.uniqueId)))
  if (active)
    throw new PortolanError(
      'ALREADY_MIGRATING',
      `Migration ${active.migrationId} moves this virtual machine already; nothing was changed.`,
      {
        retryable: true,
        remedy: 'Wait for it to end, or cancel it.',
        path: ['input', 'sourceVirtualMachineId'],
      },
    )
}
