import type { AlignedBuffers } from '../../transfer/aligned-buffers.ts'
import { digestBytes } from '../../transfer/block-digest.ts'
import { extentBytes, maxExtentBlocks, type DiskGeometry } from '../../transfer/block-grain.ts'
import { subtreeBlocks } from '../../transfer/hash-tree.ts'
import { leavesOf } from './block-digests.ts'
import type { DiskDevice } from './disk-device.ts'

/** The 256 leaves of one subtree as the disk has them now, 8 KiB; zero past the disk's end. */
export async function rereadLeaves(device: DiskDevice, geometry: DiskGeometry, buffers: AlignedBuffers, subtree: number): Promise<Buffer> {
  const leaves = Buffer.alloc(subtreeBlocks * digestBytes)
  const buffer = await buffers.acquire()
  try {
    const first = subtree * subtreeBlocks
    const end = Math.min(geometry.blockCount, first + subtreeBlocks)
    for (let block = first; block < end; block += maxExtentBlocks) {
      const piece = buffer.subarray(0, extentBytes(geometry, block, Math.min(maxExtentBlocks, end - block)))
      await device.read(piece, block)
      leavesOf(piece).copy(leaves, (block - first) * digestBytes)
    }
  } finally {
    buffers.release(buffer)
  }
  return leaves
}
