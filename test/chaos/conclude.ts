/** After the faults are healed: how it ended, whether the verdict was right, and whether what failed can be repeated. */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { readClouds } from '../../src/cli/demo-migration.ts'
import { hasEnded } from '../support/scenario-site.ts'
import { until } from '../support/until.ts'
import * as documents from './campaign-documents.ts'
import { checkCopies, verdictOf } from './checks.ts'
import type { RunResult } from './result.ts'
import { retryUntilCompleted } from './retry.ts'
import { judgeSeen } from './seen-during-faults.ts'
import type { Stage } from './stage.ts'

/** @throws Error when the migration does not end in time. */
export async function conclude(stage: Stage, id: string, timeoutMs: number, result: RunResult): Promise<void> {
  const { scenario } = stage
  await until(() => scenario.progress(id), hasEnded, timeoutMs)
  const ended = await scenario.migration(id)
  result.outcome = ended.error ? `${ended.state}: ${ended.error.message}` : ended.state
  const completed = ended.state === 'COMPLETED'
  result.verdict = await verdictOf(stage, id)
  if (result.verdict !== (completed ? 'MIGRATED' : 'NOT_MIGRATED')) {
    result.wrongVerdicts++
    result.findings.push(`The verdict is ${result.verdict}, and the migration ${result.outcome}.`)
  }
  judgeSeen(stage.seenDuringFaults, completed, result)
  await checkCopies(scenario, completed, timeoutMs, result)
  if (!completed && result.noneRecoverable === 0) await retryUntilCompleted(stage, id, timeoutMs, result)
}

/** The database is gone: an operator asks for the verdicts at the destination, and has them acted on. @throws Error when that does not end in time. */
export async function concludeFromRecords(stage: Stage, timeoutMs: number, result: RunResult): Promise<void> {
  const { scenario } = stage
  const cloudId = (await readClouds(scenario.api())).find(({ name }) => name === scenario.destination.name)?.id
  const ask = async () => {
    const { migrationVerdicts } = await scenario.api().run<{ migrationVerdicts: documents.Verdict[] }>(documents.verdicts, { cloudId })
    return migrationVerdicts.find(({ uniqueId }) => uniqueId === scenario.vm.uniqueId)
  }
  for (const deadline = performance.now() + timeoutMs; ; await delay(2_000)) {
    const { reconcileMigrations: refusal } = await scenario
      .api()
      .run<{ reconcileMigrations: { code?: string; message?: string } }>(documents.reconcile, {
        input: { idempotencyKey: randomUUID(), cloudId },
      })
    const verdict = await ask()
    result.verdict = verdict?.verdict ?? 'NO_RECORD'
    result.outcome = `reconciled from the records: ${verdict?.row ?? 'nothing there'}`
    if (refusal.code) result.outcome += `; the last reconciliation was refused: ${refusal.message}`
    if (hasConcluded(verdict, refusal.code)) break
    if (performance.now() <= deadline) continue
    if (result.verdict === 'UNKNOWN') result.wrongVerdicts++
    throw new Error(`The reconciliation does not end: ${result.outcome}; ${JSON.stringify(verdict)}`)
  }
  judgeSeen(stage.seenDuringFaults, result.verdict === 'MIGRATED', result)
  await checkCopies(scenario, result.verdict === 'MIGRATED', timeoutMs, result)
}

/** Everything is healed, so that nothing is there has to be known, and UNKNOWN is no answer. */
export function hasConcluded(verdict: Pick<documents.Verdict, 'verdict' | 'reconciliation'> | undefined, refusal?: string): boolean {
  if (!verdict) return refusal === undefined || refusal === 'NOT_FOUND'
  return verdict.verdict !== 'UNKNOWN' && verdict.reconciliation?.state === 'DONE'
}
