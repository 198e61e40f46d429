/** The clocks of a guest and of this machine may run apart by this much: a lease counts as lapsed that much earlier. */
const clockDrift = 0.05

/**
 * Whether the source stayed frozen until it was suspended. The guest's watchdog counts from the moment it got the last renewal, which is not before we sent it.
 *
 * @param lastRenewalSentMs monotonic time at which the last renewal was sent that the agent confirmed
 * @param suspendConfirmedMs monotonic time, of the same process, at which the provider had confirmed the suspension
 */
export function heldThroughSuspension(lastRenewalSentMs: number, suspendConfirmedMs: number, leaseMs: number): boolean {
  return suspendConfirmedMs - lastRenewalSentMs < leaseMs * (1 - clockDrift)
}
