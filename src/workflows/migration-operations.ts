import { eq } from 'drizzle-orm'
import type { Transaction } from '../database/client.ts'
import { migrations } from '../database/tables/migration.ts'
import { requireFuture } from '../domain/cutover-time.ts'
import { PortolanError } from '../domain/errors.ts'
import { isEnded, requireAllowed, type OperatorAction } from '../domain/operator-actions.ts'
import { translated } from './failure.ts'
import type { Idempotency } from './idempotency.ts'
import type { MigrationCheck } from './migration-check.ts'
import type { MigrationStart } from './migration-start.ts'
import type { MigrationPatch, MigrationStore } from './migration-store.ts'
import type { Actor, Operations } from './operations.ts'
import { wait } from './wait.ts'

export type MigrationOperations = Pick<
  Operations,
  'validateMigration' | 'startMigration' | 'pauseMigration' | 'resumeMigration' | 'cutOverMigration' | 'cancelMigration'
>

// A type, not an interface: it has to be a record of strings.
type MigrationAnswer = { migrationId: string }

const checkTimeoutMs = 120_000

export function createMigrationOperations(dependencies: {
  check: MigrationCheck
  start: MigrationStart
  idempotency: Idempotency
  /** Hands a stored migration to the engine. Must not throw: what can't be submitted now is submitted later. */
  submit: (migrationId: string) => Promise<void>
  store: Pick<MigrationStore, 'read'>
  /** How long a cancel waits for the data path to stop, in milliseconds. */
  cancelMs?: number
}): MigrationOperations {
  const { check, start, idempotency, submit, store, cancelMs = 60_000 } = dependencies
  const steerToCancel = steer('CANCEL', 'cancelMigration', () => ({ desired: 'CANCEL' }))

  /** Writes the operator's wish; the workflow sees it within a moment. */
  function steer(action: OperatorAction, mutation: string, patchOf: (input: { at?: Date }) => MigrationPatch) {
    return (actor: Actor, input: { idempotencyKey: string; migrationId: string; at?: Date }) =>
      translated(() =>
        idempotency.once<MigrationAnswer>(actor, mutation, input, (commit) =>
          commit(
            async (tx) => {
              requireAllowed(action === 'CUT_OVER' && input.at ? 'CUT_OVER_LATER' : action, await migrationIn(tx, input.migrationId))
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
          const { idempotencyKey: _key, cutoverAt, ...request } = input
          if (cutoverAt) requireFuture(cutoverAt, ['input', 'cutoverAt'])
          const migration = await start.prepare(request, cutoverAt ?? null)
          return commit(
            async (tx) => {
              await migration.insert(tx)
              return { migrationId: migration.id }
            },
            [{ topic: 'MIGRATION', subject: migration.id }],
          )
        })
        await submit(answer.migrationId)
        return answer
      }),

    pauseMigration: steer('PAUSE', 'pauseMigration', () => ({ desired: 'PAUSE' })),
    resumeMigration: steer('RESUME', 'resumeMigration', () => ({ desired: 'RUN' })),
    cutOverMigration: steer('CUT_OVER', 'cutOverMigration', ({ at }) => ({ cutoverRequestedAt: at ?? new Date() })),
    /** Answers once everything has stopped: a transfer that outlives its cancel may write where somebody else writes by then. */
    async cancelMigration(actor, input) {
      const answer = await steerToCancel(actor, input)
      for (const until = performance.now() + cancelMs; ;) {
        const { state, phase, problem } = await store.read(answer.migrationId)
        if (isEnded(state)) return answer
        if (performance.now() > until) throw notStopped(answer.migrationId, phase, problem)
        await wait(cancelPollMs, AbortSignal.timeout(cancelMs))
      }
    },
  }
}

const cancelPollMs = 50

function notStopped(id: string, phase: string, problem: string | null): PortolanError {
  return new PortolanError(
    'TIMED_OUT',
    `The cancel of migration ${id} is under way, but not everything has stopped yet (${phase}). ${problem ?? ''}`.trim(),
    {
      retryable: true,
      remedy: 'Send the same request again to wait on, and see `problem` for what it waits for.',
    },
  )
}

export async function migrationIn(tx: Pick<Transaction, 'select'>, migrationId: string) {
  const [migration] = await tx.select().from(migrations).where(eq(migrations.id, migrationId))
  if (migration) return migration
  throw new PortolanError('NOT_FOUND', `There is no migration ${JSON.stringify(migrationId)}; nothing was changed.`, {
    retryable: false,
    remedy: 'See the list of migrations for the ids.',
    path: ['input', 'migrationId'],
  })
}
