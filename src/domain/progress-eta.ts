export interface CopyPace {
  /** What this round has yet to look at. */
  leftBytes: number
  rateBytesPerSecond: number
  /** Null where nobody can tell: then nothing is taken to change. */
  changeRateBytesPerSecond: number | null
  /** What of the permitted downtime is left for sending. */
  permittedTransferMs: number
}

const longestSeriesRounds = 10_000

/**
 * How long until the copy may be cut over: this round, and those after it, each of which sends what changed during the one before. Null when that never comes at these
 * rates, or nothing moves. A safe integer: a row with more could not be read. Pure.
 */
export function timeUntilReadyMs({
  leftBytes,
  rateBytesPerSecond,
  changeRateBytesPerSecond,
  permittedTransferMs,
}: CopyPace): number | null {
  if (rateBytesPerSecond <= 0 || permittedTransferMs <= 0) return null
  // A round takes so much of the time of the one before it.
  const share = (changeRateBytesPerSecond ?? 0) / rateBytesPerSecond
  let roundMs = (leftBytes / rateBytesPerSecond) * 1000
  let totalMs = roundMs
  for (let round = 0; round < longestSeriesRounds; round++) {
    const nextMs = roundMs * share
    if (nextMs <= permittedTransferMs) return Math.min(Math.round(totalMs), Number.MAX_SAFE_INTEGER)
    if (share >= 1) return null
    totalMs += nextMs
    roundMs = nextMs
  }
  return null
}
