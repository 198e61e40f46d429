import type { RunPlan } from './plan.ts'

/** What is counted, over one run or all; all of it must be zero. */
export const counted = ['twoLive', 'noneRecoverable', 'recordsLost', 'wrongVerdicts', 'unresolved', 'leaks'] as const
export type Counts = Record<(typeof counted)[number], number>

export interface RunResult extends Counts {
  plan: RunPlan
  /** Of the program, as git tells. */
  commit: string
  /** How the migration ended before any retry, and what was said of it. */
  outcome: string
  verdict: string | null
  /** The phase in which each fault really came, in the plan's order; null where the migration had ended before. */
  injectedIn: (string | null)[]
  /** Of the blocks that were verified before a failure, the share that the retry sent again though nobody had changed them; null without a retry. */
  recopiedShare: number | null
  recordsAcknowledged: number
  durationMs: number
  /** One sentence for each thing that is wrong. */
  findings: string[]
}

export function newResult(plan: RunPlan, commit: string): RunResult {
  return {
    ...noCounts(),
    plan,
    commit,
    outcome: 'NOT_STARTED',
    verdict: null,
    injectedIn: plan.faults.map(() => null),
    recopiedShare: null,
    recordsAcknowledged: 0,
    durationMs: 0,
    findings: [],
  }
}

/** What ended a run from outside of it counts as well: nobody knows what became of its machine. */
export function unresolvedBy(result: RunResult, error: unknown): RunResult {
  return { ...result, unresolved: result.unresolved + 1, findings: [...result.findings, String(error)] }
}

export function noCounts(): Counts {
  return { twoLive: 0, noneRecoverable: 0, recordsLost: 0, wrongVerdicts: 0, unresolved: 0, leaks: 0 }
}

/** Of the blocks that are verified, no retry may copy more again. */
export const greatestRecopiedShare = 0.05

export function isClean(result: Counts & { recopiedShare: number | null }): boolean {
  return counted.every((name) => result[name] === 0) && (result.recopiedShare ?? 0) <= greatestRecopiedShare
}
