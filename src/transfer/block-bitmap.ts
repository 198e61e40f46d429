export interface BlockRun {
  first: number
  count: number
}

export interface BlockBitmap {
  /** Blocks that are set. */
  readonly count: number
  set(first: number, count: number): void
  clear(first: number, count: number): void
  has(block: number): boolean
  /** The next run of set blocks at or after `from`, at most `maxCount` long. */
  nextRun(from: number, maxCount: number): BlockRun | null
  /** Moves every set block of `other` into this one. */
  takeFrom(other: BlockBitmap): void
  clearAll(): void
}

/** One bit a block: 8 MiB for a disk of 4 TiB, of which the kernel backs only what was touched. Blocks off the disk throw RangeError. */
export function createBlockBitmap(blockCount: number): BlockBitmap {
  const words = new Uint32Array(Math.ceil(blockCount / 32))
  let count = 0

  function check(first: number, length: number): void {
    if (!Number.isSafeInteger(first) || !Number.isSafeInteger(length) || first < 0 || length < 0 || first + length > blockCount) {
      throw new RangeError(`Blocks ${first} + ${length} are not on a disk of ${blockCount} blocks.`)
    }
  }

  function has(block: number): boolean {
    return ((words[block >>> 5] ?? 0) & (1 << (block & 31))) !== 0
  }

  /** Applies to whole words where it can, since a discard may cover the disk. */
  function change(first: number, length: number, on: boolean): void {
    check(first, length)
    const end = first + length
    for (let block = first; block < end;) {
      const bit = block & 31
      const span = Math.min(32 - bit, end - block)
      const mask = span === 32 ? 0xffff_ffff : ((1 << span) - 1) << bit
      const index = block >>> 5
      const before = words[index] ?? 0
      const after = on ? before | mask : before & ~mask
      words[index] = after
      count += bitsIn(after) - bitsIn(before)
      block += span
    }
  }

  function nextSet(from: number): number {
    let block = from
    while (block < blockCount) {
      const rest = (words[block >>> 5] ?? 0) >>> (block & 31)
      if (rest !== 0) return block + (31 - Math.clz32(rest & -rest))
      block = ((block >>> 5) + 1) * 32
    }
    return -1
  }

  const bitmap: BlockBitmap = {
    get count() {
      return count
    },
    set: (first, length) => change(first, length, true),
    clear: (first, length) => change(first, length, false),
    has,
    nextRun(from, maxCount) {
      const first = nextSet(from)
      if (first < 0) return null
      let end = first + 1
      while (end < blockCount && end - first < maxCount && has(end)) end++
      return { first, count: end - first }
    },
    takeFrom(other) {
      if (other.count === 0) return
      for (let run = other.nextRun(0, blockCount); run; run = other.nextRun(run.first + run.count, blockCount)) {
        bitmap.set(run.first, run.count)
      }
      other.clearAll()
    },
    clearAll() {
      if (count > 0) words.fill(0)
      count = 0
    },
  }
  return bitmap
}

function bitsIn(word: number): number {
  let bits = word - ((word >>> 1) & 0x5555_5555)
  bits = (bits & 0x3333_3333) + ((bits >>> 2) & 0x3333_3333)
  return (((bits + (bits >>> 4)) & 0x0f0f_0f0f) * 0x0101_0101) >>> 24
}
