/**
 * Keeps the source frozen while the switchover goes on: renews the lease of the guest's watchdog, and knows since when nobody can vouch for it. In memory on
 * purpose: after a restart of the control plane nothing is known, so a lease that isn't here is not held.
 */
import { uptime } from 'node:os'
import type { AgentSession } from '../agent-gateway/agent-session.ts'
import { heldThroughSuspension, type Moment } from '../domain/freeze-lease.ts'
import { isFreezeOf } from './phases/phase-facts.ts'

export interface FreezeLease {
  /** Aborted once the lease can't be vouched for any more. */
  readonly signal: AbortSignal
  readonly frozen: string[]
  /** Renews now, so that what follows has the whole lease's time. True only where the agent itself answered to this that the freeze holds. */
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
  /** The same for all of a migration. */
  dropAllOf(migrationId: string): void
  close(): void
}

const renewalsPerLease = 4

export type LeaseClock = () => Moment
const clockOfThisMachine: LeaseClock = () => ({ monotonicMs: performance.now(), uptimeMs: uptime() * 1000 })

export function createFreezeLeases(now: LeaseClock = clockOfThisMachine): FreezeLeases {
  const leases = new Map<string, FreezeLease & { stop(): void }>()

  function drop(freezeId: string): void {
    leases.get(freezeId)?.stop()
    leases.delete(freezeId)
  }

  return {
    async begin(freezeId, session, leaseMs, signal) {
      drop(freezeId)
      const sentAt = now()
      const { frozen } = await session.request('freeze', { freezeId, leaseMs }, { signal, timeoutMs: leaseMs })
      const lease = keep({ freezeId, session, leaseMs, sentAt, frozen, now })
      leases.set(freezeId, lease)
      return lease
    },
    find: (freezeId) => leases.get(freezeId),
    drop,
    dropAllOf(migrationId) {
      for (const freezeId of leases.keys()) if (isFreezeOf(freezeId, migrationId)) drop(freezeId)
    },
    close() {
      for (const lease of leases.values()) lease.stop()
      leases.clear()
    },
  }
}

interface Begun {
  freezeId: string
  session: AgentSession
  leaseMs: number
  sentAt: Moment
  frozen: string[]
  now: LeaseClock
}

function keep({ freezeId, session, leaseMs, sentAt, frozen, now }: Begun): FreezeLease & { stop(): void } {
  const lapsed = new AbortController()
  const stopped = new AbortController()
  let lastRenewalSent = sentAt

  const vouched = () => !lapsed.signal.aborted && heldThroughSuspension(lastRenewalSent, now(), leaseMs)

  async function renew(timeoutMs = leaseMs / 2): Promise<boolean> {
    const renewalSent = now()
    let answered = false
    try {
      const { held } = await session.request('freeze.renew', { freezeId, leaseMs }, { signal: stopped.signal, timeoutMs })
      answered = held
      if (!held) lapsed.abort()
      else if (renewalSent.monotonicMs > lastRenewalSent.monotonicMs) lastRenewalSent = renewalSent
    } catch {
      // An agent that doesn't answer may answer the next time; what counts is when it last did.
    }
    if (!vouched() && !stopped.signal.aborted) lapsed.abort()
    return answered && vouched()
  }

  const timer = setInterval(() => void renew(leaseMs / renewalsPerLease), leaseMs / renewalsPerLease)
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
