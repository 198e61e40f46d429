export const findingSeverities = ['BLOCKER', 'WARNING', 'INFORMATION'] as const
export type FindingSeverity = (typeof findingSeverities)[number]

/** One result of pre-flight. A BLOCKER refuses the migration before anything changed. */
export interface Finding {
  /** Stable and machine-readable, such as `DESTINATION_TOO_SMALL`. */
  code: string
  severity: FindingSeverity
  /** What was found, and where: one sentence. */
  message: string
  /** What to do about it: one sentence. */
  remedy: string
}
