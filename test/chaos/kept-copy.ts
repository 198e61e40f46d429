/** What a copy that a failed migration keeps has to hold, and what its retry sends again. */
import { open, type FileHandle } from 'node:fs/promises'
import { blockBytes } from '../support/compare-disks.ts'

/** What the workload can have rewritten or punched out of blocks that were verified before, while the rounds that verified them ran. */
const takenBytes = 24 * 1024 ** 2

/**
 * At least so much takes room in the copy of which so much was verified. One that was whole was verified again and again as the workload went on, and what it has lost is
 * found block by block.
 */
export function leastKeptBytes(verifiedBytes: number, whole: boolean): number {
  return whole ? verifiedBytes / 2 : Math.max(verifiedBytes / 2, verifiedBytes - takenBytes)
}

/**
 * Of the verified bytes, the share that was copied for nothing: sent by the retry beyond what differed, or lost at the destination before it.
 *
 * @param changedBytes what the retry's rounds over whole disks sent
 * @param differingBytes between source and copy just before it, lost ones among them
 */
export function recopiedShare(bytes: { verifiedBytes: number; changedBytes: number; differingBytes: number; lostBytes: number }): number {
  return (Math.max(0, bytes.changedBytes - bytes.differingBytes) + bytes.lostBytes) / bytes.verifiedBytes
}

/** How many of these blocks a disk still has as the image that it began as: not zero, and written by nobody since. */
export async function untouchedBlocks(blocks: readonly number[], disk: string, image: string): Promise<number> {
  await using now = await open(disk)
  await using then = await open(image)
  const zero = Buffer.alloc(blockBytes)
  let untouched = 0
  for (const block of blocks) {
    const [present, former] = [await blockOf(now, block), await blockOf(then, block)]
    if (present.equals(former) && !present.equals(zero.subarray(0, present.length))) untouched++
  }
  return untouched
}

async function blockOf(file: FileHandle, block: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(blockBytes), 0, blockBytes, block * blockBytes)
  return buffer.subarray(0, bytesRead)
}
