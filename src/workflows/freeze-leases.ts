/**
 * Keeps the source frozen while the switchover goes on: renews the lease of the guest's watchdog, and knows since when nobody can vouch for it. In memory on
 * purpose: after a restart of the control plane nothing is known, so a lease that isn't here is not held.
 */
import type { AgentSession } from '../agent-gateway/agent-session.ts'
import { heldThroughSuspension } from '../domain/freeze-lease.ts'

export interface FreezeLease {
  /** Aborted once the lease can't be vouched for any more. */
  readonly signal: AbortSignal
  readonly frozen: string[]
  /** Renews now, so that what follows has the whole lease's time. False: it lapsed. */
  renew(): Promise<boolean>
  /** Ends the renewals; whether it held from the freeze until this moment, which is after the provider confirmed the suspension. */
  endAfterSuspension(): boolean
}

export interface FreezeLeases {
  /** Freezes the guest. Throws AgentError when the agent can't. */
  begin(freezeId: string, session: AgentSession, leaseMs: number, signal: AbortSignal): Promise<FreezeLease>
  find(freezeId: string): FreezeLease | undefined
  /** Ends the renewals without a word to the guest. */
  drop(freezeId: string): void
  close(): void
}

const renewalsPerLease = 4

export function createFreezeLeases(): FreezeLeases {
  const leases = new Map<string, FreezeLease & { stop(): void }>()

  function drop(freezeId: string): void {
    leases.get(freezeId)?.stop()
    leases.delete(freezeId)
  }

  return {
    async begin(freezeId, session, leaseMs, signal) {
      drop(freezeId)
      const sentAt = performance.now()
      const { frozen } = await session.request('freeze', { freezeId, leaseMs }, { signal, timeoutMs: leaseMs })
      const lease = keep(freezeId, session, leaseMs, sentAt, frozen)
      leases.set(freezeId, lease)
      return lease
    },
    find: (freezeId) => leases.get(freezeId),
    drop,
    close() {
      for (const lease of leases.values()) lease.stop()
      leases.clear()
    },
  }
}

function keep(freezeId: string, session: AgentSession, leaseMs: number, sentAt: number, frozen: string[]): FreezeLease & { stop(): void } {
  const lapsed = new AbortController()
  const stopped = new AbortController()
  let lastRenewalSentMs = sentAt

  const vouched = () => !lapsed.signal.aborted && heldThroughSuspension(lastRenewalSentMs, performance.now(), leaseMs)

  async function renew(): Promise<boolean> {
    const renewalSentMs = performance.now()
    try {
      const { held } = await session.request(
        'freeze.renew',
        { freezeId, leaseMs },
        { signal: stopped.signal, timeoutMs: leaseMs / renewalsPerLease },
      )
      if (held) lastRenewalSentMs = Math.max(lastRenewalSentMs, renewalSentMs)
      else lapsed.abort()
    } catch {
      // An agent that doesn't answer may answer the next time; what counts is when it last did.
    }
    if (!vouched() && !stopped.signal.aborted) lapsed.abort()
    return vouched()
  }

  const timer = setInterval(() => void renew(), leaseMs / renewalsPerLease)
  const stop = () => {
    clearInterval(timer)
    stopped.abort()
  }
  return {
    signal: lapsed.signal,
    frozen,
    renew,
    endAfterSuspension() {
      const held = vouched()
      stop()
      return held
    },
    stop,
  }
}
