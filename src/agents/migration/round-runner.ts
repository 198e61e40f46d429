import { blockBytes } from '../../transfer/block-grain.ts'
import type { ControlRequests, RoundProgress, RoundResult } from '../../transfer/control-protocol.ts'
import type { WirePace } from '../../transfer/wire-pace.ts'
import { createChangeRate } from './change-rate.ts'
import { runCopy, stopped, type Connect, type CopyOutcome } from './round.ts'
import { createRoundMeter, type RoundMeter } from './round-meter.ts'
import { createProgressReporter } from './round-progress.ts'
import { pendingBlocks } from './source-disk.ts'
import type { TrackedDisk } from './tracked-disk.ts'
import { createTransferEstimate, type TransferEstimate } from './transfer-estimate.ts'

export type RoundParams = ControlRequests['round.run'][0]

export interface RoundRunnerOptions {
  connect: Connect
  /** Of all connections to the destination, both directions. */
  wireBytes(): number
  pace: WirePace
  report(progress: RoundProgress): void
}

const reportEveryMs = 500

/** Runs one round after the other, and learns from each how fast the next will be. */
export function createRoundRunner({ connect, wireBytes, pace, report }: RoundRunnerOptions) {
  const estimate = createTransferEstimate()
  const changeRate = createChangeRate()

  return async (tracked: TrackedDisk, { round, mode }: RoundParams, signal: AbortSignal): Promise<RoundResult> => {
    const { disk, tracker, excludedDirectories } = tracked
    const meter = createRoundMeter()
    const rateNow = () => (tracker ? changeRate.learn(tracker.changedBlocks) : null)
    const progress = createProgressReporter(round, meter, () => pace.waitedMs)
    await tracker?.drain()
    const compared = disk.scanFrom >= disk.geometry.blockCount
    if (!tracker || tracker.lost || (mode === 'FULL' && compared)) {
      // Lost events are lost: only looking at every block tells what changed.
      await tracker?.restart()
      disk.compareAnew()
    } else {
      // A comparison that a stop or a lost link ended goes on where it was.
      disk.todo.takeFrom(disk.dirty)
    }
    const bytesBefore = wireBytes()
    const timer = setInterval(() => report(progress(wireBytes() - bytesBefore, rateNow())), reportEveryMs)
    try {
      const lookedUp = excludedDirectories?.lookUp((files) => (meter.lookedUpFiles += files), signal)
      const excluded = (await lookedUp?.catch((error: unknown) => Promise.reject(signal.aborted ? stopped() : error))) ?? null
      disk.toExclude = excluded?.blocks ?? null
      const outcome = await runCopy(disk, connect, meter, signal)
      await tracker?.drain()
      const bytesSent = wireBytes() - bytesBefore
      const last = progress(bytesSent, rateNow())
      report(last)
      return {
        ...resultOf(round, meter, outcome, pendingBlocks(disk), bytesSent, !tracker || tracker.lost, estimate),
        changeRateBytesPerSecond: last.changeRateBytesPerSecond,
        ...(excluded && { excludedBytes: disk.excluded.count * blockBytes, excluded: excluded.places }),
      }
    } finally {
      clearInterval(timer)
    }
  }
}

function resultOf(
  round: number,
  meter: RoundMeter,
  outcome: CopyOutcome,
  pending: number,
  bytesSent: number,
  rescanNeeded: boolean,
  estimate: TransferEstimate,
): RoundResult {
  const durationMs = Math.round(meter.elapsedMs)
  estimate.learn(meter.changedBlocks, durationMs, outcome.barrierMs)
  return {
    round,
    mode: outcome.compared ? 'FULL' : 'CHANGED',
    changedBytes: meter.changedBlocks * blockBytes,
    bytesSent,
    verifiedBytes: meter.verifiedBlocks * blockBytes,
    durationMs,
    pendingBytes: pending * blockBytes,
    // Without tracking the next round looks at everything, as long as this one did.
    estimatedTransferMs: rescanNeeded ? durationMs : estimate.transferMs(pending),
    estimatedVerifyMs: Math.round(outcome.barrierMs),
    rescanNeeded,
    rateBytesPerSecond: estimate.rateBytesPerSecond,
  }
}
