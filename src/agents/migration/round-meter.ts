import type { PeerWait } from '../../transfer/data-messages.ts'

/** Where the lanes of a round spend their time, in milliseconds summed over all lanes. */
export interface RoundWaits {
  reading: number
  hashing: number
  compressing: number
  sending: number
  verifying: number
}

/** Counts one round. Whoever does the work adds to it; nobody else does. */
export interface RoundMeter {
  scannedBlocks: number
  totalBlocks: number
  changedBlocks: number
  verifiedBlocks: number
  /** See RoundProgress. */
  lookedUpFiles: number
  waits: RoundWaits
  /** What the destination waits for, as it said last. */
  peerWait: PeerWait
  readonly elapsedMs: number
}

export function createRoundMeter(): RoundMeter {
  const startedAt = performance.now()
  return {
    scannedBlocks: 0,
    totalBlocks: 0,
    changedBlocks: 0,
    verifiedBlocks: 0,
    lookedUpFiles: 0,
    peerWait: 'LINK',
    waits: { reading: 0, hashing: 0, compressing: 0, sending: 0, verifying: 0 },
    get elapsedMs() {
      return performance.now() - startedAt
    },
  }
}
