import { phases } from './plan.ts'
import type { RunResult } from './result.ts'

/** What was learnt of a migration while something was broken. */
export interface SeenDuringFaults {
  /** Whether it had been committed, by its phase or by a verdict: that stays so. */
  committed: boolean
  /** One sentence for each verdict that was wrong when it was given. */
  wrong: string[]
  /** One for each time that the control plane answered, and gave no verdict. */
  withoutVerdict: string[]
}

export function nothingSeen(): SeenDuringFaults {
  return { committed: false, wrong: [], withoutVerdict: [] }
}

/** A phase after the commit is begun only once that is durable, and there is no way back from it. */
export function isCommitted(migration: { state: string; phase: string } | null): boolean {
  if (!migration) return false
  return migration.state === 'COMPLETED' || (phases as readonly string[]).indexOf(migration.phase) > phases.indexOf('COMMIT')
}

/** Held against how it ended. */
export function judgeSeen({ committed, wrong, withoutVerdict }: SeenDuringFaults, migrated: boolean, result: RunResult): void {
  // NOT_MIGRATED may have been right until the commit; MIGRATED stays.
  const forgotten = committed && !migrated ? [`It was committed as seen during a fault, and in the end: ${result.outcome}`] : []
  result.wrongVerdicts += wrong.length + forgotten.length
  result.unresolved += withoutVerdict.length
  result.findings.push(...wrong, ...forgotten, ...withoutVerdict)
}
