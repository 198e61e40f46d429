import { constants, zstdCompress } from 'node:zlib'
import type { ExtentCodec } from '../../transfer/data-messages.ts'
import type { RoundMeter } from './round-meter.ts'

export interface Compression {
  pack(data: Buffer, meter: RoundMeter): Promise<{ codec: ExtentCodec; data: Buffer }>
  /** Tells that so many bytes of disk have arrived and were verified. */
  arrived(diskBytes: number): void
}

/** A fast level that still gives 1.8 to 1 on binaries; negative levels skip most of the entropy coder's work. */
const level = -3
/** Smaller by less than this is not worth unpacking. */
const worthwhile = 0.9
/** After data that would not shrink, so many extents go raw unasked. */
const skipAfterFailure = 8
const trialBytes = 16 * 1024 * 1024
/** What arrives first in a turn was sent in the turn before. */
const settlingBytes = 8 * 1024 * 1024
/** Of two ways about as fast, the one that sends less: others use the link too. */
const rawAdvantage = 1.1
/** The winner's turn lasts so many trials, until the loser is tried again: what limits the copy may have changed. */
const trialsForWinner = 8

/**
 * zstd where it helps, which only a measurement tells: whether link, cipher or CPU limits the copy differs from guest to guest. Raw and packed stretches take
 * turns, and the way that moves more of the disk a second gets most of the turns. What doesn't shrink goes raw in any case.
 */
export function createCompression(peerUnpacks: boolean, now: () => number = () => performance.now()): Compression {
  const speed: Record<ExtentCodec, number | null> = { RAW: null, ZSTD: null }
  let turn: ExtentCodec = 'ZSTD'
  let turnBytes = trialBytes
  let arrivedInTurn = 0
  let measuredFrom = now()
  let skip = 0

  function nextTurn(): void {
    speed[turn] = turnBytes / Math.max(1, now() - measuredFrom)
    const wasTrial = turnBytes === trialBytes
    const winner = (speed.RAW ?? Infinity) > (speed.ZSTD ?? Infinity) * rawAdvantage ? 'RAW' : 'ZSTD'
    const untried = speed.RAW === null ? 'RAW' : speed.ZSTD === null ? 'ZSTD' : null
    const loser = winner === 'RAW' ? 'ZSTD' : 'RAW'
    turn = untried ?? (wasTrial ? winner : loser)
    turnBytes = untried === null && wasTrial ? trialBytes * trialsForWinner : trialBytes
    arrivedInTurn = 0
  }

  return {
    arrived(diskBytes) {
      const settled = arrivedInTurn >= settlingBytes
      arrivedInTurn += diskBytes
      if (!settled && arrivedInTurn >= settlingBytes) measuredFrom = now()
      if (arrivedInTurn >= settlingBytes + turnBytes) nextTurn()
    },
    async pack(data, meter) {
      const raw = { codec: 'RAW', data } as const
      if (!peerUnpacks || turn === 'RAW') return raw
      if (skip > 0) {
        skip--
        return raw
      }
      const startedAt = performance.now()
      const packed = await compress(data)
      meter.waits.compressing += performance.now() - startedAt
      if (packed.length < data.length * worthwhile) return { codec: 'ZSTD', data: packed }
      skip = skipAfterFailure
      return raw
    },
  }
}

function compress(data: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    // One chunk: the default of 16 KiB would go through the event loop 64 times.
    const options = { chunkSize: data.length, params: { [constants.ZSTD_c_compressionLevel]: level } }
    zstdCompress(data, options, (error, packed) => (error ? reject(error) : resolve(packed)))
  })
}
