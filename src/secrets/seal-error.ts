export type SealErrorCode = 'KEY_MALFORMED' | 'KEY_LOST' | 'KEY_EXPOSED' | 'WRONG_KEY' | 'NOT_SEALED' | 'TAMPERED'

/** A secret could not be sealed or unsealed. The message never holds the secret or the key. */
export class SealError extends Error {
  override readonly name = 'SealError'
  readonly code: SealErrorCode

  constructor(code: SealErrorCode, message: string) {
    super(message)
    this.code = code
  }
}
