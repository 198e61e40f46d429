/** A way to copy the source guest's disk to the destination guest's. */
export interface Contender {
  name: 'portolan' | 'rsync' | 'nbdcopy'
  /** Untimed, before each first copy: the destination's disk is all zero then. */
  prepare(): Promise<void>
  firstCopy(): Promise<Copied>
  /** After some blocks of the source were changed; absent where the tool can only copy all again. */
  deltaRound?(): Promise<Copied>
  /** Untimed, after the repetition. */
  finish(): Promise<void>
}

export interface Copied {
  seconds: number
  /** On the wire, where the tool tells. */
  bytesSent: number | null
}
