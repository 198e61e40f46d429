/** The clocks of a guest and of this machine may run apart by this much: a lease counts as lapsed that much earlier. */
const clockDrift = 0.05

/** One moment of this process, in milliseconds, on two clocks; only differences mean anything. */
export interface Moment {
  /** Stands still while the machine sleeps. */
  monotonicMs: number
  /** Goes on then, but may be as coarse as a second. */
  uptimeMs: number
}

/**
 * Whether the source stayed frozen until it was suspended. The guest's watchdog counts from the moment it got the last renewal, which is not before we sent it.
 *
 * @param lastRenewalSent of those that the agent confirmed
 * @param suspendConfirmed when the provider had confirmed the suspension
 */
export function heldThroughSuspension(lastRenewalSent: Moment, suspendConfirmed: Moment, leaseMs: number): boolean {
  const passedMs = Math.max(
    suspendConfirmed.monotonicMs - lastRenewalSent.monotonicMs,
    suspendConfirmed.uptimeMs - lastRenewalSent.uptimeMs,
  )
  return passedMs < leaseMs * (1 - clockDrift)
}
