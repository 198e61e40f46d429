import { constants, zstdCompress } from 'node:zlib'
import type { ExtentCodec } from '../../transfer/data-messages.ts'
import type { RoundMeter } from './round-meter.ts'

export type CompressExtent = (data: Buffer, meter: RoundMeter) => Promise<{ codec: ExtentCodec; data: Buffer }>

/** A fast level that still gives 1.8 to 1 on binaries; negative levels skip the entropy coder's slow part. */
const level = -3
/** Smaller by less than this is not worth unpacking. */
const worthwhile = 0.9
/** Try again so often after data that would not shrink. */
const retryAfterExtents = 16

/**
 * zstd where it helps: only while the lanes wait longer for the link than for the CPU, and only kept where the result is smaller.
 */
export function createCompression(peerUnpacks: boolean): CompressExtent {
  let pointlessFor = 0
  return async (data, meter) => {
    const raw = { codec: 'RAW', data } as const
    if (!peerUnpacks || !linkIsTheBottleneck(meter)) return raw
    if (pointlessFor > 0) {
      pointlessFor--
      return raw
    }
    const startedAt = performance.now()
    const packed = await compress(data)
    meter.waits.compressing += performance.now() - startedAt
    if (packed.length < data.length * worthwhile) return { codec: 'ZSTD', data: packed }
    pointlessFor = retryAfterExtents
    return raw
  }
}

function linkIsTheBottleneck({ waits }: RoundMeter): boolean {
  return waits.sending + waits.verifying > waits.reading + waits.hashing + waits.compressing
}

function compress(data: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    zstdCompress(data, { params: { [constants.ZSTD_c_compressionLevel]: level } }, (error, packed) =>
      error ? reject(error) : resolve(packed),
    )
  })
}
