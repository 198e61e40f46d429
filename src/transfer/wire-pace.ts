/** Holds what goes to the wire to a limit: a token bucket that may be told another limit at any moment, also while somebody waits. */
export interface WirePace {
  /** Bytes a second; null: no limit. */
  limitBytesPerSecond: number | null
  /** Waits until some of `wanted` may go, and says how many. */
  take(wanted: number): Promise<number>
  /** For what was on the wire without having been asked for: TLS's own bytes, and what came in. */
  spend(bytes: number): void
  /** How long there was somebody waiting in `take`, milliseconds in all. */
  readonly waitedMs: number
}

/** Small pieces keep a slow link's heartbeat alive. */
const pieceBytes = 16_384
/** What may go at once after a pause: enough not to be held up by the timer. */
const burstMs = 100
/** Another limit is noticed within this. */
const longestWaitMs = 100

export interface PaceClock {
  now(): number
  sleep(milliseconds: number): Promise<void>
}

const realClock: PaceClock = {
  now: () => performance.now(),
  sleep: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
}

export function createWirePace({ now, sleep }: PaceClock = realClock): WirePace {
  let limit: number | null = null
  let available = 0
  let filledAt = now()
  let waitedMs = 0
  let waiting = 0

  function fill(bytesPerSecond: number): void {
    const at = now()
    const most = Math.max(2 * pieceBytes, (bytesPerSecond * burstMs) / 1000)
    available = Math.min(most, available + ((at - filledAt) * bytesPerSecond) / 1000)
    filledAt = at
  }

  return {
    get limitBytesPerSecond() {
      return limit
    },
    set limitBytesPerSecond(next) {
      // What was saved up, or owed, under another limit counts no more.
      if (next === limit) return
      available = 0
      filledAt = now()
      limit = next
    },
    async take(wanted) {
      const piece = Math.min(wanted, pieceBytes)
      for (;;) {
        const bytesPerSecond = limit
        if (bytesPerSecond === null) return wanted
        fill(bytesPerSecond)
        if (available >= piece) {
          const granted = Math.min(wanted, Math.floor(available))
          available -= granted
          return granted
        }
        const from = now()
        waiting++
        await sleep(Math.max(1, Math.min(longestWaitMs, ((piece - available) / bytesPerSecond) * 1000)))
        waiting--
        if (waiting === 0) waitedMs += now() - from
      }
    },
    spend(bytes) {
      available -= bytes
    },
    get waitedMs() {
      return waitedMs
    },
  }
}
