/**
 * Brings both sides to the same set of blocks that are left out. The order matters: leaves that the source dropped come back from the destination and must
 * hash to what was kept, at every moment, also after a lost link.
 *
 *   1. what enters the set: zero leaves here                                       (the destination's real ones are masked when they are asked for)
 *   2. the whole set is told: the destination puts zero leaves where it begins, and re-reads its disk where it ends
 *   3. what leaves the set: the destination's leaves are taken, and the blocks sent whatever they say
 */
import type { BlockBitmap } from '../../transfer/block-bitmap.ts'
import { digestBytes } from '../../transfer/block-digest.ts'
import { encodeExclusion, runsIn, runsOutside } from '../../transfer/exclusion-messages.ts'
import { frameTypes } from '../../transfer/data-messages.ts'
import { subtreeBlocks } from '../../transfer/hash-tree.ts'
import type { PeerConversation } from './peer-conversation.ts'
import type { SourceDisk } from './source-disk.ts'

export async function applyExclusion(disk: SourceDisk, conversation: PeerConversation): Promise<void> {
  const wanted = disk.toExclude
  if (!wanted) return
  for (const { first, count } of runsIn(wanted)) {
    disk.todo.clear(first, count)
    disk.unverified.clear(first, count)
  }
  for (const { first, count } of bySubtree(runsOutside(wanted, disk.excluded))) {
    await disk.tree.update(first, Buffer.alloc(count * digestBytes))
    disk.excluded.set(first, count)
  }
  const pieces = encodeExclusion(wanted)
  for (const piece of pieces.slice(0, -1)) await conversation.tell(frameTypes.exclude, piece).sent
  await conversation.ask(frameTypes.exclude, pieces.at(-1)!, frameTypes.excludeDone)
  for (const { first, count } of bySubtree(runsOutside(disk.excluded, wanted))) {
    const subtree = Math.floor(first / subtreeBlocks)
    const theirs = await disk.askLeaves(subtree)
    const at = (first % subtreeBlocks) * digestBytes
    await disk.tree.update(first, theirs.subarray(at, at + count * digestBytes))
    disk.excluded.clear(first, count)
    disk.todo.set(first, count)
    disk.unverified.set(first, count)
  }
}

/** The leaves of a subtree with zero ones where blocks are left out. */
export function withoutExcluded(leaves: Buffer, subtree: number, excluded: BlockBitmap): Buffer {
  const start = subtree * subtreeBlocks
  const end = start + subtreeBlocks
  let masked: Buffer | null = null
  for (
    let run = excluded.nextRun(start, subtreeBlocks);
    run && run.first < end;
    run = excluded.nextRun(run.first + run.count, subtreeBlocks)
  ) {
    masked ??= Buffer.from(leaves)
    masked.fill(0, (run.first - start) * digestBytes, Math.min(run.first + run.count - start, subtreeBlocks) * digestBytes)
  }
  return masked ?? leaves
}

/** The runs are made before anything is changed: what is changed is what they are made of. */
export function bySubtree(runs: Iterable<{ first: number; count: number }>): { first: number; count: number }[] {
  const parts: { first: number; count: number }[] = []
  for (const { first, count } of runs) {
    for (let from = first; from < first + count;) {
      const end = Math.min(first + count, (Math.floor(from / subtreeBlocks) + 1) * subtreeBlocks)
      parts.push({ first: from, count: end - from })
      from = end
    }
  }
  return parts
}
