/** Every way a provider can fail. Closed: the edge translates each code exhaustively. */
export const providerErrorCodes = [
  'INVALID_OPTIONS',
  'UNAUTHORIZED',
  'UNREACHABLE',
  'NOT_FOUND',
  'CONFLICT',
  'INSUFFICIENT_CAPACITY',
  'UNSUPPORTED',
  'TIMED_OUT',
  'CANCELLED',
  'PLUGIN_CRASHED',
  'INCOMPATIBLE_PLUGIN',
  'INTERNAL',
] as const
export type ProviderErrorCode = (typeof providerErrorCodes)[number]

export interface ProviderErrorDetails {
  /** True when the same call may succeed later without anybody changing anything. */
  retryable: boolean
  /** What the user does next: one sentence. */
  remedy: string
  /** The part of the input or of the provider that failed, such as `['options', 'uri']`. */
  path?: readonly string[]
  /** Where the VM can be found after the failure. `unknown` is a state of its own, never "nowhere". */
  vmOwner?: 'source' | 'destination' | 'unknown'
  cause?: unknown
}

/** What plugins throw. Survives the process boundary (see plugin-process.ts). */
export class ProviderError extends Error {
  override readonly name = 'ProviderError'
  readonly code: ProviderErrorCode
  readonly retryable: boolean
  readonly remedy: string
  readonly path: readonly string[]
  readonly vmOwner: 'source' | 'destination' | 'unknown' | undefined

  constructor(code: ProviderErrorCode, message: string, details: ProviderErrorDetails) {
    super(message, { cause: details.cause })
    this.code = code
    this.retryable = details.retryable
    this.remedy = details.remedy
    this.path = details.path ?? []
    this.vmOwner = details.vmOwner
  }
}
