/** What a client can act on. Closed; the schema describes each value. */
export const errorCodes = [
  'INVALID_INPUT',
  'NOT_FOUND',
  'CONFLICT',
  'ALREADY_MIGRATING',
  'PRE_FLIGHT_FAILED',
  'IDEMPOTENCY_KEY_REUSED',
  'PLUGIN_UNKNOWN',
  'INVALID_OPTIONS',
  'UNAUTHORIZED_AT_CLOUD',
  'CLOUD_UNREACHABLE',
  'INSUFFICIENT_CAPACITY',
  'UNSUPPORTED',
  'NOT_ALLOWED_NOW',
  'TIMED_OUT',
  'CANCELLED',
  'AGENT_UNREACHABLE',
  'LEASE_LAPSED',
  'ROOTS_DIFFER',
  'HEALTH_CHECK_FAILED',
  'NOT_CONVERGING',
  'HOOK_FAILED',
  'NO_PARENT_MATCHES',
  'PROGRAM_FAILED',
  'TASK_FAILED',
  'BARRIERS_STUCK',
  'PLUGIN_CRASHED',
  'INTERNAL',
] as const
export type ErrorCode = (typeof errorCodes)[number]

export interface ErrorDetails {
  retryable: boolean
  /** What to do next: one sentence. */
  remedy: string
  /** The part of the input that is at fault, such as `['input', 'sourceVirtualMachineId']`. */
  path?: readonly string[]
}

/** A failure with a sentence for its user: what failed, where, what was left as it was. */
export class PortolanError extends Error {
  override readonly name = 'PortolanError'
  readonly code: ErrorCode
  readonly retryable: boolean
  readonly remedy: string
  readonly path: readonly string[]

  constructor(code: ErrorCode, message: string, details: ErrorDetails) {
    super(message)
    this.code = code
    this.retryable = details.retryable
    this.remedy = details.remedy
    this.path = details.path ?? []
  }
}
