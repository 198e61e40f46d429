import { blockDigest, digestBytes } from '../../transfer/block-digest.ts'
import { blockBytes } from '../../transfer/block-grain.ts'

const zeroBlock = Buffer.alloc(blockBytes)

/** One leaf a block of `data`, which begins at a block's start: 32 bytes each, zero for an all-zero block. */
export function leavesOf(data: Buffer): Buffer {
  const leaves = Buffer.alloc(Math.ceil(data.length / blockBytes) * digestBytes)
  for (let at = 0, leaf = 0; at < data.length; at += blockBytes, leaf += digestBytes) {
    const block = data.subarray(at, at + blockBytes)
    // A native compare runs ten times as fast as the digest.
    if (!isZeroBlock(block)) blockDigest(block).copy(leaves, leaf)
  }
  return leaves
}

function isZeroBlock(block: Buffer): boolean {
  return block.compare(zeroBlock, 0, block.length) === 0
}
