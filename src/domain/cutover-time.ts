import { PortolanError } from './errors.ts'

const farthestDays = 366

/** A cutover is set for a moment to come. Throws PortolanError INVALID_INPUT for one that is past, or more than a year away: most often a slip of the pen. */
export function requireFuture(at: Date, path: readonly string[], now = new Date()): void {
  const aheadMs = at.getTime() - now.getTime()
  if (aheadMs > 0 && aheadMs <= farthestDays * 86_400_000) return
  throw new PortolanError(
    'INVALID_INPUT',
    `${path.join('.')} must lie ahead, by at most ${farthestDays} days, and was ${at.toISOString()} at ${now.toISOString()}. Nothing was changed.`,
    { retryable: false, remedy: 'Give a moment to come; to cut over at once, leave it away.', path },
  )
}
