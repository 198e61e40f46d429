import type { Downtime } from './migration.ts'

/** Moments of the switchover that succeeded, epoch milliseconds, in order. */
export interface SwitchoverTimes {
  /** The freeze was asked for: from here on the service may stand still. */
  freezing: number
  frozen: number
  remainderSent: number
  /** The roots were equal, the source suspended, the copy sealed. */
  verified: number
  /** The first good answer was asked for: the destination has booted. */
  answering: number
  /** The destination passed its check and is on its networks. */
  exposed: number
}

/** Every moment from the request to freeze until the exposure belongs to exactly one part. */
export function downtimeParts(times: SwitchoverTimes): Downtime {
  return {
    freezeMs: times.frozen - times.freezing,
    transferMs: times.remainderSent - times.frozen,
    verifyMs: times.verified - times.remainderSent,
    bootMs: times.answering - times.verified,
    healthMs: times.exposed - times.answering,
  }
}
