/** Keeps the source's agent at the limit that holds now: it changes with the operator's word, and with the time of day. */
import type { AgentSession } from '../agent-gateway/agent-session.ts'
import { bandwidthLimitAt, type BandwidthSchedule } from '../domain/bandwidth-schedule.ts'
import type { MigrationRow } from './migration-store.ts'

export interface BandwidthKeeper {
  /** Tells the agent where that is news to it. Throws AgentError. */
  apply(migration: MigrationRow, now?: Date): Promise<void>
}

const requestTimeoutMs = 10_000

/** `frozen`: while the source stands still every moment counts, and nobody else has use for the link, so there is no limit (docs/decisions/0013-bandwidth-limit.md). */
export function createBandwidthKeeper(source: Pick<AgentSession, 'request'>, { frozen = false } = {}): BandwidthKeeper {
  /** Undefined: nobody knows what the agent was told last. */
  let told: number | null | undefined

  return {
    async apply(migration, now = new Date()) {
      const schedule = bandwidthScheduleOf(migration)
      if (!schedule) return
      const limitBytesPerSecond = frozen ? null : bandwidthLimitAt(schedule, now)
      if (limitBytesPerSecond === told) return
      told = undefined
      await source.request('bandwidth.set', { limitBytesPerSecond }, { timeoutMs: requestTimeoutMs })
      told = limitBytesPerSecond
    },
  }
}

/** The operator's newest word. */
export function bandwidthScheduleOf({ bandwidth, request }: Pick<MigrationRow, 'bandwidth' | 'request'>): BandwidthSchedule | undefined {
  return bandwidth ?? request.bandwidth
}
