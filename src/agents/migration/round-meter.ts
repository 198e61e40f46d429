import { blockBytes } from '../../transfer/block-grain.ts'
import type { Bottleneck, RoundProgress } from '../../transfer/control-protocol.ts'
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
    peerWait: 'LINK',
    waits: { reading: 0, hashing: 0, compressing: 0, sending: 0, verifying: 0 },
    get elapsedMs() {
      return performance.now() - startedAt
    },
  }
}

export function roundProgress(round: number, meter: RoundMeter, bytesSent: number): RoundProgress {
  const perMs = meter.elapsedMs > 0 ? meter.scannedBlocks / meter.elapsedMs : 0
  const left = Math.max(0, meter.totalBlocks - meter.scannedBlocks)
  return {
    round,
    scannedBytes: Math.min(meter.scannedBlocks, meter.totalBlocks) * blockBytes,
    totalBytes: meter.totalBlocks * blockBytes,
    changedBytes: meter.changedBlocks * blockBytes,
    bytesSent,
    verifiedBytes: meter.verifiedBlocks * blockBytes,
    rateBytesPerSecond: Math.round(perMs * 1000 * blockBytes),
    etaMs: perMs > 0 ? Math.round(left / perMs) : null,
    bottleneck: bottleneckOf(meter),
  }
}

/** The stage that the lanes waited for longest; where that is the other side, what the other side says that it waits for. */
function bottleneckOf({ waits, peerWait }: RoundMeter): Bottleneck | null {
  const cpu = waits.hashing + waits.compressing
  const peer = waits.sending + waits.verifying
  const most = Math.max(waits.reading, cpu, peer)
  if (most <= 0) return null
  if (most === waits.reading) return 'SOURCE_DISK'
  if (most === cpu) return 'SOURCE_CPU'
  return peerWait
}
