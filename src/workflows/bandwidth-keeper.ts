/** Keeps the source's agent at the limit that holds now: it changes with the operator's word, and with the time of day. */
import type { AgentSession } from '../agent-gateway/agent-session.ts'
import { bandwidthLimitAt } from '../domain/bandwidth-schedule.ts'
import type { MigrationRow } from './migration-store.ts'

export interface BandwidthKeeper {
  /** Tells the agent where that is news to it. Throws AgentError. */
  apply(migration: MigrationRow, now?: Date): Promise<void>
}

const requestTimeoutMs = 10_000

export function createBandwidthKeeper(source: Pick<AgentSession, 'request'>): BandwidthKeeper {
  /** Undefined: nobody knows what the agent was told last. */
  let told: number | null | undefined

  return {
    async apply(migration, now = new Date()) {
      const schedule = migration.bandwidth ?? migration.request.bandwidth
      if (!schedule) return
      // While the source stands still every moment counts, and nobody else has use for the link (docs/decisions/0013-bandwidth-limit.md).
      const limitBytesPerSecond = migration.phase === 'SEND_REMAINDER' ? null : bandwidthLimitAt(schedule, now)
      if (limitBytesPerSecond === told) return
      told = undefined
      await source.request('bandwidth.set', { limitBytesPerSecond }, { timeoutMs: requestTimeoutMs })
      told = limitBytesPerSecond
    },
  }
}
