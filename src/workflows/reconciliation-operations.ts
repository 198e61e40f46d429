import { randomUUID } from 'node:crypto'
import { and, eq } from 'drizzle-orm'
import type { Transaction } from '../database/client.ts'
import { reconciliations } from '../database/tables/reconciliation.ts'
import { PortolanError } from '../domain/errors.ts'
import { conclude } from '../domain/verdict-actions.ts'
import { translated } from './failure.ts'
import type { Idempotency } from './idempotency.ts'
import type { Actor, Operations } from './operations.ts'
import { idOf, runKeyOf, type ReconciliationRow } from './reconciliation-runner.ts'
import type { MachineVerdict, VerdictReader } from './verdict-reader.ts'

export type ReconciliationOperations = Pick<Operations, 'migrationVerdicts' | 'reconcileMigrations'>

/** Each site has a time-out of its own, and all are asked at once. */
const readTimeoutMs = 120_000

/** What is to be written for a verdict, where it is known of which machine it is. */
export type Reconcilable = MachineVerdict & { uniqueId: string; destination: { cloudId: string } }

export function createReconciliationOperations(dependencies: {
  verdicts: VerdictReader
  idempotency: Idempotency
  engineId: string
  /** Hands a stored run to the engine. Must not throw: what can't be submitted now is submitted later. */
  submit: (runKey: string) => Promise<void>
}): ReconciliationOperations {
  const { verdicts, idempotency, engineId, submit } = dependencies

  return {
    migrationVerdicts: (_actor, question) => translated(() => verdicts.read(question, AbortSignal.timeout(readTimeoutMs))),

    reconcileMigrations: (actor, input) =>
      translated(async () => {
        const { idempotencyKey: _key, ...question } = input
        const answer = await idempotency.once<{ reconciliations: string }>(actor, 'reconcileMigrations', input, async (commit) => {
          const found = (await verdicts.read(question, AbortSignal.timeout(readTimeoutMs))).filter(isReconcilable)
          if (found.length === 0) throw nothingToReconcile()
          return commit(async (tx) => {
            const rows: ReconciliationRow[] = []
            for (const verdict of found) rows.push(await takeUp(tx, verdict, { engineId, actor }))
            return { reconciliations: rows.map(runKeyOf).join(' ') }
          }, [])
        })
        const runKeys = answer.reconciliations.split(' ')
        for (const runKey of runKeys) await submit(runKey)
        return { reconciliationIds: runKeys.map(idOf) }
      }),
  }
}

/**
 * One row an attempt, however often it is asked for. One that has ended is taken up again, as another run, where there is something to do; one that hasn't goes on, here where a person
 * asks here: the control plane that took it may be gone, and stops where it isn't.
 */
export async function takeUp(
  tx: Transaction,
  verdict: Reconcilable,
  { engineId, actor }: { engineId: string; actor: Actor | null },
): Promise<ReconciliationRow> {
  const { uniqueId, migrationId, attempt, name, standing } = verdict
  const { cloudId } = verdict.destination
  const now = new Date()
  const where = and(
    eq(reconciliations.cloudId, cloudId),
    eq(reconciliations.uniqueId, uniqueId),
    eq(reconciliations.migrationId, migrationId),
    eq(reconciliations.attempt, attempt),
  )
  const asked = {
    engineId,
    tokenId: actor?.tokenId ?? null,
    verdict: standing.verdict,
    row: standing.row,
    state: 'PENDING' as const,
    updatedAt: now,
  }
  const [there] = await tx.select().from(reconciliations).where(where)
  const goesOn = there?.state === 'PENDING' || there?.state === 'WAITING'
  if (goesOn && (actor === null || there.engineId === engineId)) return there
  if (there?.state === 'DONE' && conclude(standing).state === 'DONE') return there
  const [row] = there
    ? await tx
        .update(reconciliations)
        .set({ ...asked, run: there.run + 1, problem: null, endedAt: null })
        .where(eq(reconciliations.id, there.id))
        .returning()
    : await tx
        .insert(reconciliations)
        .values({ ...asked, id: randomUUID(), cloudId, uniqueId, migrationId, attempt, name, createdAt: now })
        .returning()
  return row!
}

export function isReconcilable(verdict: MachineVerdict): verdict is Reconcilable {
  return verdict.uniqueId !== null && verdict.destination.cloudId !== null && verdict.destination.cloudId !== ''
}

function nothingToReconcile(): PortolanError {
  return new PortolanError(
    'NOT_FOUND',
    'No site that could be read has records of such a migration, so there is nothing to reconcile; nothing was changed.',
    {
      retryable: true,
      remedy: 'See `migrationVerdicts` with the same argument, and connect the clouds that are missing.',
      path: ['input'],
    },
  )
}
