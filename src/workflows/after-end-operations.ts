/** What may begin with a migration that has ended: retry, rollback, discard of the kept copy. */
import { eq } from 'drizzle-orm'
import type { Change, Database, Transaction } from '../database/client.ts'
import { clouds } from '../database/tables/cloud.ts'
import { migrations } from '../database/tables/migration.ts'
import { PortolanError } from '../domain/errors.ts'
import type { MigrationChanges } from '../domain/migration-request.ts'
import { requireAllowedAfterEnd, type AfterEndAction } from '../domain/operator-actions.ts'
import { pendingActivity } from '../domain/phase-activity.ts'
import type { CarryBack } from './carry-back.ts'
import type { CloudConnections } from './cloud-connections.ts'
import { translated } from './failure.ts'
import { reviveGroup, runningGroup } from './group-revival.ts'
import type { Idempotency } from './idempotency.ts'
import { requireKeptCopy } from './kept-copy-check.ts'
import { migrationIn } from './migration-operations.ts'
import { lockVirtualMachine, nextStartOrder, requireUnlocked } from './migration-start.ts'
import type { MigrationPatch, MigrationRow, MigrationStore } from './migration-store.ts'
import type { Actor, Operations } from './operations.ts'
import { resultsOf } from './phase-context.ts'
import {
  newestCarryBackVersion,
  newestDiscardVersion,
  newestRollbackVersion,
  newestVersion,
  phaseList,
  type PhaseLists,
} from './phase-lists.ts'
import { requireBothSides, requireNewestMove } from './rollback-check.ts'

export type AfterEndOperations = Pick<Operations, 'retryMigration' | 'rollbackMigration' | 'discardMigration'>

// A type, not an interface: it has to be a record of strings.
type MigrationAnswer = { migrationId: string }

const checkTimeoutMs = 120_000

export function createAfterEndOperations(dependencies: {
  idempotency: Idempotency
  phaseLists: PhaseLists
  engineId: string
  submit: (migrationId: string) => Promise<void>
  database: Pick<Database, 'select'>
  submitGroup: (groupId: string) => Promise<void>
  store: Pick<MigrationStore, 'steps'>
  connections: Pick<CloudConnections, 'connection'>
  carryBack: CarryBack
}): AfterEndOperations {
  const { idempotency, phaseLists, engineId, submit, database, submitGroup, store, connections, carryBack } = dependencies

  /** Puts the row back to PENDING at the first phase of a list, under the lock, and hands it to the engine. */
  function begin(
    action: AfterEndAction,
    mutation: string,
    version: (row: MigrationRow) => number,
    patchOf: (row: MigrationRow, changes: MigrationChanges) => MigrationPatch & { attempt?: number },
    /** Asks the clouds first, and throws where it can't be done. */
    check: (row: MigrationRow) => Promise<void> = async () => {},
  ) {
    return (actor: Actor, input: { idempotencyKey: string; migrationId: string; changes?: MigrationChanges }) =>
      translated(async () => {
        const { migrationId, changes = {} } = input
        const answer = await idempotency.once<MigrationAnswer>(actor, mutation, input, async (commit) => {
          await check(await migrationIn(database, migrationId))
          const changed: Change[] = [{ topic: 'MIGRATION', subject: migrationId }]
          return commit(async (tx) => {
            const row = await migrationIn(tx, migrationId)
            requireAllowedAfterEnd(action, row)
            // What it was to roll back may have been rolled back otherwise meanwhile, or moved on.
            if (action === 'RETRY' && row.rollsBackMigrationId !== null)
              await requireRollBack(tx, await migrationIn(tx, row.rollsBackMigrationId), true)
            if (action === 'ROLL_BACK') await requireRollBack(tx, row, false)
            if (action === 'DISCARD') await requireDestinationConnected(tx, row)
            await lockVirtualMachine(tx, row.sourceVirtualMachineId, migrationId)
            await tx
              .update(migrations)
              .set({
                ...freshRun(phaseLists, version(row), engineId),
                run: row.run + 1,
                ...(action === 'RETRY' && { startOrder: nextStartOrder }),
                ...patchOf(row, changes),
              })
              .where(eq(migrations.id, migrationId))
            const revived = action === 'RETRY' ? await reviveGroup(tx, migrationId, engineId) : null
            if (revived) changed.push({ topic: 'MIGRATION_GROUP', subject: revived })
            return { migrationId }
          }, changed)
        })
        await submit(migrationId)
        const groupId = action === 'RETRY' ? await runningGroup(database, migrationId, engineId) : null
        if (groupId) await submitGroup(groupId)
        return answer
      })
  }

  const rollBack = begin(
    'ROLL_BACK',
    'rollbackMigration',
    () => newestRollbackVersion,
    () => ({ endState: 'ROLLED_BACK' }),
    async (migration) => {
      await requireRollBack(database, migration, false)
      await requireUnlocked(database, migration.sourceVirtualMachineId)
      const signal = AbortSignal.timeout(checkTimeoutMs)
      await requireBothSides({
        migration,
        results: resultsOf(await store.steps(migration)),
        source: () => connections.connection(migration.sourceCloudId, signal),
        destination: () => connections.connection(migration.destinationCloudId, signal),
        signal,
      })
    },
  )

  /** The answer names the migration that does it. */
  const carryWritesBack: AfterEndOperations['rollbackMigration'] = (actor, input) =>
    translated(async () => {
      const answer = await idempotency.once<MigrationAnswer>(actor, 'rollbackMigration', input, async (commit) => {
        const carrying = await carryBack.prepare(await migrationIn(database, input.migrationId))
        return commit(
          async (tx) => {
            await requireRollBack(tx, await migrationIn(tx, input.migrationId), true)
            await carrying.insert(tx)
            return { migrationId: carrying.id }
          },
          [{ topic: 'MIGRATION', subject: carrying.id }],
        )
      })
      await submit(answer.migrationId)
      return answer
    })

  return {
    retryMigration: begin(
      'RETRY',
      'retryMigration',
      ({ rollsBackMigrationId }) => (rollsBackMigrationId === null ? newestVersion(phaseLists) : newestCarryBackVersion),
      (row, changes) => ({
        ...changed(row, changes),
        attempt: row.attempt + 1,
        switchover: 1,
        voidedSwitchovers: 0,
        // An order that was for the attempt before; a time that is still to come holds.
        cutoverRequestedAt: row.cutoverRequestedAt && row.cutoverRequestedAt.getTime() > Date.now() ? row.cutoverRequestedAt : null,
        sourceRoot: null,
        destinationRoot: null,
        downtime: null,
        exposedAt: null,
        convergence: null,
        estimatedRemainingMs: null,
        via: null,
        trackingMode: null,
        findings: [],
      }),
    ),

    rollbackMigration: (actor, input) => (input.carryWritesBack ? carryWritesBack(actor, input) : rollBack(actor, input)),

    /** The error stays to be read: it says why there is a copy to discard. */
    discardMigration: begin(
      'DISCARD',
      'discardMigration',
      () => newestDiscardVersion,
      (row) => ({
        endState: row.state as 'FAILED' | 'CANCELLED' | 'ROLLED_BACK',
        ...errorOf(row),
      }),
      async (migration) => {
        requireAllowedAfterEnd('DISCARD', migration)
        await requireDestinationConnected(database, migration)
        await requireUnlocked(database, migration.sourceVirtualMachineId)
        const signal = AbortSignal.timeout(checkTimeoutMs)
        await requireKeptCopy(migration, await connections.connection(migration.destinationCloudId, signal), signal)
      },
    ),
  }
}

async function requireRollBack(tx: Pick<Transaction, 'select'>, migration: MigrationRow, carriesWritesBack: boolean): Promise<void> {
  requireAllowedAfterEnd('ROLL_BACK', migration)
  await requireNewestMove(tx, migration, carriesWritesBack)
}

/** Once begun, a discard can't be cancelled, and without its cloud it would never end. One that falls silent once it has begun is waited for. */
async function requireDestinationConnected(tx: Pick<Transaction, 'select'>, { id, destinationCloudId }: MigrationRow): Promise<void> {
  const [cloud] = await tx.select({ name: clouds.name, state: clouds.state }).from(clouds).where(eq(clouds.id, destinationCloudId))
  if (cloud && cloud.state !== 'DISCONNECTED') return
  const name = cloud ? JSON.stringify(cloud.name) : destinationCloudId
  throw new PortolanError(
    'NOT_ALLOWED_NOW',
    `DISCARD of migration ${id} was refused, since the cloud ${name}, which has the copy, is not connected; nothing was changed.`,
    {
      retryable: false,
      remedy: `Connect the cloud again under the name ${name} and with the same plugin, then discard the copy.`,
      path: ['input', 'migrationId'],
    },
  )
}

/** What the row says of the request, with the changes. Throws PortolanError INVALID_INPUT. */
function changed({ id, request, copyKept }: Pick<MigrationRow, 'id' | 'request' | 'copyKept'>, changes: MigrationChanges): MigrationPatch {
  const { port } = request.healthCheck
  // A provider was told which ports are to be reached when the copy was made, and is told nothing when it is taken up.
  if (copyKept && changes.healthCheck && changes.healthCheck.port !== port)
    throw new PortolanError(
      'INVALID_INPUT',
      `The copy that migration ${id} keeps is reached at port ${port} only, so its health check can't ask at port ${changes.healthCheck.port}. Nothing was changed.`,
      {
        retryable: false,
        remedy: `Let the check ask at port ${port}, or discard the copy first.`,
        path: ['input', 'changes', 'healthCheck'],
      },
    )
  const asked = { ...request, ...changes }
  return { request: asked, permittedDowntimeMs: asked.permittedDowntimeMs }
}

function errorOf({ errorCode, errorMessage, errorRemedy, errorRetryable }: MigrationRow): MigrationPatch {
  return { errorCode, errorMessage, errorRemedy, errorRetryable }
}

function freshRun(phaseLists: PhaseLists, version: number, engineId: string) {
  return {
    phaseListVersion: version,
    engineId,
    phase: phaseList(phaseLists, version)[0]!.name,
    state: 'PENDING',
    activity: pendingActivity,
    direction: 'FORWARD',
    desired: 'RUN',
    endState: null,
    errorCode: null,
    errorMessage: null,
    errorRemedy: null,
    errorRetryable: null,
    problem: null,
    endedAt: null,
    updatedAt: new Date(),
  } as const
}
