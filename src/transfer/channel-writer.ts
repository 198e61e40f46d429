import type { TLSSocket } from 'node:tls'
import type { WirePace } from './wire-pace.ts'

/** The largest TLS record. */
const recordBytes = 16_384

export interface ChannelWriter {
  /** One call at a time. Resolves when the kernel has taken everything, and the parts may be reused. */
  write(parts: readonly Buffer[]): Promise<void>
}

/** `wireBytes`: all that went over the socket so far. `failure` turns what the socket says into what a write rejects with. */
export function createChannelWriter(
  secure: TLSSocket,
  options: { wireBytes: () => number; failure: (error: Error) => Error; pace?: WirePace | undefined },
): ChannelWriter {
  const { wireBytes, failure, pace } = options

  /** One at a time: Node joins what is queued behind a running write into one buffer, which copies every byte twice more. */
  function writeNow(part: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      secure.write(part, (error) => (error ? reject(failure(error)) : resolve()))
    })
  }

  async function writePaced(pacing: WirePace, part: Buffer): Promise<void> {
    for (let at = 0; at < part.length;) {
      const length = await pacing.take(part.length - at)
      const wireBefore = wireBytes()
      await writeNow(part.subarray(at, at + length))
      // All of the wire counts: TLS's records, and the answers that came meanwhile.
      pacing.spend(Math.max(0, wireBytes() - wireBefore - length))
      at += length
    }
  }

  return {
    async write(parts) {
      for (const part of inWholeRecords(parts)) await (pace && pace.limitBytesPerSecond !== null ? writePaced(pace, part) : writeNow(part))
    },
  }
}

/**
 * Every write is a record, a packet and a turn of the event loop of its own, so small parts go together, and with the beginning of a large one. Only that much is copied.
 */
export function inWholeRecords(parts: readonly Buffer[]): Buffer[] {
  const writes: Buffer[] = []
  let small: Buffer[] = []
  let room = recordBytes
  for (const part of parts) {
    const beginning = part.subarray(0, room)
    small.push(beginning)
    room -= beginning.length
    if (room > 0) continue
    writes.push(Buffer.concat(small))
    small = []
    room = recordBytes
    if (part.length > beginning.length) writes.push(part.subarray(beginning.length))
  }
  if (small.length > 0) writes.push(Buffer.concat(small))
  return writes
}
