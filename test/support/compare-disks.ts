import { open } from 'node:fs/promises'

export const blockBytes = 64 * 1024

/**
 * Compares two disk images from outside, block by block (64 KiB). @returns the numbers of the blocks that differ; a block that only one image has differs too.
 */
export async function differingBlocks(left: string, right: string): Promise<number[]> {
  await using a = await open(left)
  await using b = await open(right)
  const chunkBytes = 64 * blockBytes
  const [one, other] = [Buffer.alloc(chunkBytes), Buffer.alloc(chunkBytes)]
  const differing: number[] = []
  for (let offset = 0; ; offset += chunkBytes) {
    const [readOne, readOther] = await Promise.all([a.read(one, 0, chunkBytes, offset), b.read(other, 0, chunkBytes, offset)])
    const longest = Math.max(readOne.bytesRead, readOther.bytesRead)
    for (let at = 0; at < longest; at += blockBytes) {
      const end = (bytesRead: number) => Math.min(at + blockBytes, bytesRead)
      if (!one.subarray(at, end(readOne.bytesRead)).equals(other.subarray(at, end(readOther.bytesRead))))
        differing.push((offset + at) / blockBytes)
    }
    if (longest < chunkBytes) return differing
  }
}
