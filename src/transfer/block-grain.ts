/** The grain of everything: changes, hashes and frames speak of blocks of 64 KiB. */
export const blockBytes = 65_536

/** Blocks in one frame and one read at most: 1 MiB. */
export const maxExtentBlocks = 16

export interface DiskGeometry {
  diskBytes: number
  blockCount: number
}

/** `diskBytes` is a multiple of 512; the last block may be short. */
export function diskGeometry(diskBytes: number): DiskGeometry {
  if (!Number.isSafeInteger(diskBytes) || diskBytes <= 0 || diskBytes % 512 !== 0) {
    throw new RangeError(`A disk of ${diskBytes} bytes is not a positive multiple of 512 bytes.`)
  }
  return { diskBytes, blockCount: Math.ceil(diskBytes / blockBytes) }
}

/** Bytes of `count` blocks from `first` on, which must lie on the disk. */
export function extentBytes(geometry: DiskGeometry, first: number, count: number): number {
  return Math.min(geometry.diskBytes, (first + count) * blockBytes) - first * blockBytes
}
