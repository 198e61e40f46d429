import { blockBytes } from '../../transfer/block-grain.ts'
import type { Bottleneck, RoundProgress } from '../../transfer/control-protocol.ts'
import type { PeerWait } from '../../transfer/data-messages.ts'
import type { RoundMeter, RoundWaits } from './round-meter.ts'

/** What rates and the bottleneck are taken over: long enough to be steady, short enough to follow a limit that was just changed. */
const windowMs = 10_000

interface Sample {
  elapsedMs: number
  scannedBlocks: number
  heldMs: number
  waits: RoundWaits
}

/** Follows one round; call it at a steady pace. `heldMs`: how long the limit of bandwidth has held sending up so far. */
export function createProgressReporter(round: number, meter: RoundMeter, heldMs: () => number) {
  const sample = (): Sample => ({
    elapsedMs: meter.elapsedMs,
    scannedBlocks: meter.scannedBlocks,
    heldMs: heldMs(),
    waits: { ...meter.waits },
  })
  const samples = [sample()]

  return (bytesSent: number, changeRateBytesPerSecond: number | null): RoundProgress => {
    const now = sample()
    samples.push(now)
    while (samples.length > 2 && now.elapsedMs - samples[1]!.elapsedMs >= windowMs) samples.shift()
    const then = samples[0]!
    const tookMs = now.elapsedMs - then.elapsedMs
    const perMs = tookMs > 0 ? Math.max(0, now.scannedBlocks - then.scannedBlocks) / tookMs : 0
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
      bottleneck: bottleneckOf(waitsBetween(then.waits, now.waits), tookMs, now.heldMs - then.heldMs, meter.peerWait),
      changeRateBytesPerSecond,
      ...(meter.lookedUpFiles > 0 && { lookedUpFiles: meter.lookedUpFiles }),
    }
  }
}

function waitsBetween(then: RoundWaits, now: RoundWaits): RoundWaits {
  return {
    reading: now.reading - then.reading,
    hashing: now.hashing - then.hashing,
    compressing: now.compressing - then.compressing,
    sending: now.sending - then.sending,
    verifying: now.verifying - then.verifying,
  }
}

/**
 * The limit where it held for half of the time: whoever else waited then waited for it. Otherwise the stage that the lanes waited for longest; where that is the other
 * side, what the other side says that it waits for. Pure.
 */
export function bottleneckOf(waits: RoundWaits, tookMs: number, heldMs: number, peerWait: PeerWait): Bottleneck | null {
  if (tookMs > 0 && heldMs > tookMs / 2) return 'BANDWIDTH_LIMIT'
  const cpu = waits.hashing + waits.compressing
  const peer = waits.sending + waits.verifying
  const most = Math.max(waits.reading, cpu, peer)
  if (most <= 0) return null
  if (most === waits.reading) return 'SOURCE_DISK'
  if (most === cpu) return 'SOURCE_CPU'
  return peerWait
}
