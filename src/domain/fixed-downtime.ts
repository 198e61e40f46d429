import type { Downtime } from './migration.ts'

/** What a cut-over takes beside sending and verifying, in milliseconds. */
export type FixedDowntime = Pick<Downtime, 'freezeMs' | 'bootMs' | 'healthMs'>

/** A full system's boot under software emulation; a real cloud's first measured one replaces it. */
const cautious: FixedDowntime = { freezeMs: 500, bootMs: 25_000, healthMs: 500 }

/** As the last cut-over into the same cloud took, or a cautious guess where there was none. */
export function fixedDowntimeFrom(last: Downtime | null): FixedDowntime {
  return last ? { freezeMs: last.freezeMs, bootMs: last.bootMs, healthMs: last.healthMs } : cautious
}
