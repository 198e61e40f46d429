import { setTimeout as delay } from 'node:timers/promises'
import { ApiError } from '../../src/cli/graphql-client.ts'
import { verdictOf } from './checks.ts'
import { isCommitted } from './seen-during-faults.ts'
import type { Stage } from './stage.ts'

/** For an answer with a verdict in it, where the control plane answers at all. */
const verdictWithinMs = 20_000
const askAgainMs = 1_000
/** Each look reads records at a site. */
const lookAgainMs = 3_000

export interface Look {
  /** Aborted: what is away by the fault is not waited for any more. */
  due: AbortSignal
  /** Aborted: the run is over. */
  over: AbortSignal
  withinMs?: number
}

/** Asks for the verdict, again and again while something is broken: where anybody is there to answer there has to be one, whichever site is gone. */
export async function lookDuringFault(stage: Stage, id: string, { due, over, withinMs = verdictWithinMs }: Look): Promise<void> {
  const seen = stage.seenDuringFaults
  let answeredSince: number | null = null
  while (!over.aborted) {
    seen.committed ||= isCommitted(await stage.scenario.progress(id).catch(() => null))
    const committedBefore = seen.committed
    const answer = await verdictOf(stage, id).catch((error: unknown) => (error instanceof ApiError ? error : 'NOBODY_THERE'))
    // Whoever has an empty database knows no such migration.
    if (stage.databaseWasLost() || (answer === 'NOBODY_THERE' && due.aborted)) return
    if (typeof answer === 'string' && answer !== 'NOBODY_THERE') {
      seen.committed ||= answer === 'MIGRATED'
      if (answer === 'NOT_MIGRATED' && committedBefore) seen.wrong.push('During a fault the verdict was NOT_MIGRATED after the commit.')
      if (due.aborted || seen.wrong.length > 0) return
      answeredSince = null
      await delay(lookAgainMs, undefined, { signal: AbortSignal.any([due, over]) }).catch(() => {})
      continue
    }
    if (answer !== 'NOBODY_THERE') {
      answeredSince ??= performance.now()
      if (performance.now() - answeredSince >= withinMs) {
        seen.withoutVerdict.push(`During a fault the control plane answered, and not with a verdict: ${answer?.message ?? 'nothing'}`)
        return
      }
    }
    const signal = answer === 'NOBODY_THERE' ? AbortSignal.any([due, over]) : over
    await delay(askAgainMs, undefined, { signal }).catch(() => {})
  }
}
