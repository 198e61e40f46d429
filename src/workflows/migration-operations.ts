import { randomUUID } from 'node:crypto'
import { eq, or } from 'drizzle-orm'
import type { Transaction } from '../database/client.ts'
import { activeMigrations, migrations } from '../database/tables/migration.ts'
import { virtualMachines } from '../database/tables/topology.ts'
import { PortolanError } from '../domain/errors.ts'
import { requireAllowed, type OperatorAction } from '../domain/operator-actions.ts'
import { translated } from './failure.ts'
import type { Idempotency } from './idempotency.ts'
import type { MigrationCheck } from './migration-check.ts'
import type { MigrationPatch } from './migration-store.ts'
import type { Actor, Operations } from './operations.ts'
import { newestVersion, phaseList, type PhaseLists } from './phase-lists.ts'

export type MigrationOperations = Omit<Operations, 'connectCloud' | 'disconnectCloud' | 'refreshTopology'>

// A type, not an interface: it has to be a record of strings.
type MigrationAnswer = { migrationId: string }

const checkTimeoutMs = 120_000

export function createMigrationOperations(dependencies: {
  check: MigrationCheck
  idempotency: Idempotency
  phaseLists: PhaseLists
  engineId: string
  /** Hands a stored migration to the engine. Must not throw: what can't be submitted now is submitted later. */
  submit: (migrationId: string) => Promise<void>
}): MigrationOperations {
  const { check, idempotency, phaseLists, engineId, submit } = dependencies

  /** Writes the operator's wish; the workflow sees it within a moment. */
  function steer(action: OperatorAction, mutation: string, patchOf: (input: { at?: Date }) => MigrationPatch) {
    return (actor: Actor, input: { idempotencyKey: string; migrationId: string; at?: Date }) =>
      translated(() =>
        idempotency.once<MigrationAnswer>(actor, mutation, input, (commit) =>
          commit(
            async (tx) => {
              requireAllowed(action, await migrationIn(tx, input.migrationId))
              await tx
                .update(migrations)
                .set({ ...patchOf(input), updatedAt: new Date() })
                .where(eq(migrations.id, input.migrationId))
              return { migrationId: input.migrationId }
            },
            [{ topic: 'MIGRATION', subject: input.migrationId }],
          ),
        ),
      )
  }

  return {
    validateMigration: (_actor, input) => translated(() => check.findings(input, AbortSignal.timeout(checkTimeoutMs))),

    startMigration: (actor, input) =>
      translated(async () => {
        const answer = await idempotency.once<MigrationAnswer>(actor, 'startMigration', input, async (commit) => {
          const { idempotencyKey: _key, ...request } = input
          const { sourceCloudId } = await check.resolve(request)
          const version = newestVersion(phaseLists)
          const first = phaseList(phaseLists, version)[0]!.name
          const id = randomUUID()
          const now = new Date()
          return commit(
            async (tx) => {
              await lock(tx, request.sourceVirtualMachineId, id)
              await tx.insert(migrations).values({
                id,
                attempt: 1,
                phaseListVersion: version,
                engineId,
                state: 'PENDING',
                phase: first,
                desired: 'RUN',
                cutoverPolicy: request.cutoverPolicy,
                sourceCloudId,
                destinationCloudId: request.destinationCloudId,
                sourceVirtualMachineId: request.sourceVirtualMachineId,
                request,
                permittedDowntimeMs: request.permittedDowntimeMs,
                findings: [],
                createdAt: now,
                updatedAt: now,
              })
              return { migrationId: id }
            },
            [{ topic: 'MIGRATION', subject: id }],
          )
        })
        await submit(answer.migrationId)
        return answer
      }),

    pauseMigration: steer('PAUSE', 'pauseMigration', () => ({ desired: 'PAUSE' })),
    resumeMigration: steer('RESUME', 'resumeMigration', () => ({ desired: 'RUN' })),
    cutOverMigration: steer('CUT_OVER', 'cutOverMigration', ({ at }) => ({ cutoverRequestedAt: at ?? new Date() })),
    cancelMigration: steer('CANCEL', 'cancelMigration', () => ({ desired: 'CANCEL' })),
  }
}

/** One place may be connected twice, and a virtual machine known by two rows: what counts is its unique id. */
async function lock(tx: Transaction, virtualMachineId: string, migrationId: string): Promise<void> {
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
  await tx.insert(activeMigrations).values({ virtualMachineId, migrationId })
}

async function migrationIn(tx: Transaction, migrationId: string) {
  const [migration] = await tx.select().from(migrations).where(eq(migrations.id, migrationId))
  if (migration) return migration
  throw new PortolanError('NOT_FOUND', `There is no migration ${JSON.stringify(migrationId)}; nothing was changed.`, {
    retryable: false,
    remedy: 'See the list of migrations for the ids.',
    path: ['input', 'migrationId'],
  })
}
