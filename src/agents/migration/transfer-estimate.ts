import { blockBytes } from '../../transfer/block-grain.ts'

export interface TransferEstimate {
  /** What a round took: blocks sent, all of its time, and the part of it that was flushing at the destination. */
  learn(blocks: number, durationMs: number, flushMs: number): void
  /** How long sending so many blocks is likely to take. */
  transferMs(blocks: number): number
  /** Null before a round was long enough to tell. */
  readonly rateBytesPerSecond: number | null
}

/** A shorter round says more about its fixed costs than about speed. */
const tellingBlocks = 32
/** Before anything was learnt: 4 MiB a second. */
const firstGuessMsPerBlock = 16

/**
 * From the last rounds: a time for each block, from rounds long enough to tell, and a fixed time, from short ones. A round that compared the disk counts its
 * comparison as well, so that the first estimate errs on the long side.
 */
export function createTransferEstimate(): TransferEstimate {
  let msPerBlock = firstGuessMsPerBlock
  let fixedMs = 0
  let learnt = false
  return {
    learn(blocks, durationMs, flushMs) {
      if (blocks >= tellingBlocks) {
        msPerBlock = Math.max(0, durationMs - flushMs) / blocks
        learnt = true
      } else fixedMs = Math.max(0, durationMs - flushMs - blocks * msPerBlock)
    },
    transferMs: (blocks) => Math.round(fixedMs + blocks * msPerBlock),
    get rateBytesPerSecond() {
      return learnt && msPerBlock > 0 ? Math.round((blockBytes * 1000) / msPerBlock) : null
    },
  }
}
