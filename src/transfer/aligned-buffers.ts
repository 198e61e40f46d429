/** The bounded pool of transfer buffers. They are the only memory that disk blocks pass through. */
export interface AlignedBuffers {
  readonly bufferBytes: number
  /** Waits for a free one, first come first served. */
  acquire(): Promise<Buffer>
  /** Gives it back; its content may be overwritten at once. */
  release(buffer: Buffer): void
}

/**
 * O_DIRECT wants memory aligned to the disk's sectors, which Node's own buffers are not; WebAssembly's memory starts on a page and never moves
 * as long as it isn't grown. `bufferBytes` is a multiple of 64 KiB.
 */
export function createAlignedBuffers(count: number, bufferBytes: number): AlignedBuffers {
  if (bufferBytes % 65_536 !== 0) throw new RangeError(`Buffers of ${bufferBytes} bytes are not a multiple of 64 KiB.`)
  const pages = (count * bufferBytes) / 65_536
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages })
  const free: Buffer[] = Array.from({ length: count }, (_, index) => Buffer.from(memory.buffer, index * bufferBytes, bufferBytes))
  const waiting: ((buffer: Buffer) => void)[] = []
  return {
    bufferBytes,
    acquire() {
      const buffer = free.pop()
      return buffer ? Promise.resolve(buffer) : new Promise((resolve) => waiting.push(resolve))
    },
    release(buffer) {
      const next = waiting.shift()
      if (next) next(buffer)
      else free.push(buffer)
    },
  }
}
