/** What the service is away for if the cut-over began now, in milliseconds, as far as can be foreseen. */
export interface RemainingEstimate {
  /** Freezing the guest's file systems. */
  freezeMs: number
  /** Sending what is pending. */
  transferMs: number
  /** The destination re-reading it, and the roots. */
  verifyMs: number
  /** Suspending the source and booting the destination from the copied disk. */
  bootMs: number
  /** From the booted kernel to the first good answer, and opening the network. */
  healthMs: number
}

/** A safe integer: a row with more could not be read. */
export function estimatedRemainingMs(estimate: RemainingEstimate): number {
  const { freezeMs, transferMs, verifyMs, bootMs, healthMs } = estimate
  return Math.min(Math.ceil(freezeMs + transferMs + verifyMs + bootMs + healthMs), Number.MAX_SAFE_INTEGER)
}

/** The criterion: `estimated remaining time <= permitted downtime`. */
export function mayCutOver(remainingMs: number, permittedDowntimeMs: number): boolean {
  return remainingMs <= permittedDowntimeMs
}
