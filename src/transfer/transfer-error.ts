/** What an agent's work can fail with. The code reaches the control plane as it is. */
export type TransferErrorCode =
  /** The connection between the agents is gone; what was verified stays verified. */
  | 'LINK_LOST'
  /** The peer is not who the migration's certificates say it must be. */
  | 'PEER_REFUSED'
  /** The peer sent what the protocol doesn't allow: truncated, flipped, out of turn. */
  | 'PROTOCOL'
  /** The two agents share no protocol version, block size or digest. */
  | 'INCOMPATIBLE'
  | 'NOT_CONNECTED'
  | 'NOT_TRACKING'
  | 'NOT_RECEIVING'
  | 'UNKNOWN_DISK'
  | 'DISK_TOO_SMALL'
  /** The source's disk is not as large any more as it was when the copy began. */
  | 'DISK_SIZE_CHANGED'
  | 'DISK_READ_FAILED'
  | 'DISK_WRITE_FAILED'
  /** What the destination re-reads is not what was written to it, several times over. */
  | 'VERIFICATION_FAILED'
  | 'FREEZE_FAILED'
  /** The lease of this freeze lapsed, or it was thawed: it can't be taken again. */
  | 'FREEZE_VOID'
  | 'ROUND_STOPPED'
  | 'ANOTHER_ROUND_RUNS'
  | 'FIX_UP_FAILED'
  | 'INVALID_REQUEST'
  | 'TIMED_OUT'
  | 'INTERNAL'

/** `retryable`: the same request may succeed later without anybody changing anything. */
export class TransferError extends Error {
  override readonly name = 'TransferError'
  readonly code: TransferErrorCode
  readonly retryable: boolean

  constructor(code: TransferErrorCode, message: string, details: { retryable: boolean; cause?: unknown }) {
    super(message, { cause: details.cause })
    this.code = code
    this.retryable = details.retryable
  }
}
