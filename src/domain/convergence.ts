import type { Convergence } from './migration.ts'

const roundsToJudgeBy = 3
/** A round must get below this part of the best before it, or it hasn't got anywhere. */
const progressFactor = 0.95

/**
 * Judges by the estimates after each round, oldest first, in milliseconds. NOT_CONVERGING: the newest three rounds brought nothing against the best before them, and
 * the criterion held after none of them: in a long hold one busy moment is no verdict. Null: too few rounds to say.
 */
export function judgeConvergence(remainingMs: readonly number[], permittedDowntimeMs: number): Convergence | null {
  const newest = remainingMs.at(-1)
  if (newest === undefined) return null
  if (newest <= permittedDowntimeMs) return 'CONVERGING'
  if (remainingMs.length <= roundsToJudgeBy) return null
  const bestBefore = Math.min(...remainingMs.slice(0, -roundsToJudgeBy))
  return remainingMs.slice(-roundsToJudgeBy).every((value) => value > permittedDowntimeMs && value >= bestBefore * progressFactor)
    ? 'NOT_CONVERGING'
    : 'CONVERGING'
}
