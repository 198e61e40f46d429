/**
 * The FULL round's work: makes the tree's leaves equal to the destination's, and finds what differs. Subtree digests come first; leaves only of subtrees
 * that differ. Where the destination is known to be empty, blocks go out as they are read.
 */
import { digestBytes, zeroDigest } from '../../transfer/block-digest.ts'
import type { BlockRun } from '../../transfer/block-bitmap.ts'
import { maxExtentBlocks } from '../../transfer/block-grain.ts'
import { decodeDigests, encodeSubtreeRange, frameTypes, maxDigestsAnswered } from '../../transfer/data-messages.ts'
import { subtreeBlocks } from '../../transfer/hash-tree.ts'
import { TransferError } from '../../transfer/transfer-error.ts'
import type { CopySession } from './copy-session.ts'
import type { SourceDisk } from './source-disk.ts'

/** Goes on from `disk.scanFrom`, which moves on as subtrees are done. Differing blocks end up sent, or in `todo` and `unverified`. */
export async function compareDisk(disk: SourceDisk, session: CopySession, destinationIsZero: boolean): Promise<void> {
  const { blockCount } = disk.geometry
  while (disk.scanFrom < blockCount) {
    const first = Math.floor(disk.scanFrom / subtreeBlocks)
    const count = Math.min(maxDigestsAnswered, disk.tree.subtreeCount - first)
    const digests = destinationIsZero ? null : await askDigests(session, first, count)
    for (let subtree = first; subtree < first + count;) {
      const length = destinationIsZero ? count : zeroSubtreesFrom(digests, subtree - first)
      if (length > 0) await copyToEmpty(disk, session, (subtree + length) * subtreeBlocks)
      else await compareSubtree(disk, session, subtree, digestAt(digests, subtree - first))
      subtree += Math.max(1, length)
    }
  }
}

async function copyToEmpty(disk: SourceDisk, session: CopySession, endBlock: number): Promise<void> {
  const end = Math.min(endBlock, disk.geometry.blockCount)
  // The cursor moves when an extent is taken: one that fails is in `unverified`, and is sent on the next connection.
  const extents = extentsOf(disk, disk.scanFrom, end, (taken) => {
    // Not looked at again before it is verified: of two of the same block under way, the first one's word would clear what the second still needs.
    disk.todo.clear(disk.scanFrom, taken - disk.scanFrom)
    disk.scanFrom = taken
  })
  await session.copy(extents, 'ZERO')
  disk.scanFrom = end
}

async function compareSubtree(disk: SourceDisk, session: CopySession, subtree: number, theirs: Buffer): Promise<void> {
  const first = subtree * subtreeBlocks
  const end = Math.min(first + subtreeBlocks, disk.geometry.blockCount)
  await session.copy(extentsOf(disk, first, end), 'HASH_ONLY')
  if (!disk.tree.subtreeDigest(subtree).equals(theirs)) {
    const held = await disk.askLeaves(subtree)
    const ours = await disk.tree.leaves(subtree)
    for (let block = first; block < end; block++) {
      const at = (block - first) * digestBytes
      if (ours.subarray(at, at + digestBytes).equals(held.subarray(at, at + digestBytes))) continue
      disk.unverified.set(block, 1)
      disk.todo.set(block, 1)
    }
  }
  disk.scanFrom = end
  // Sent right away: the blocks are read again, since they may have changed since they were hashed. None from here on: of what was not compared yet, leaves of single
  // blocks would make a subtree that the destination does not have, and what its digest was asked for would hold no more.
  await session.copy(runsOf(disk, disk.todo, end), 'AS_IN_TREE')
}

async function askDigests(session: CopySession, first: number, count: number): Promise<Buffer> {
  const answer = decodeDigests(
    await session.conversation.ask(frameTypes.digestsWanted, encodeSubtreeRange(first, count), frameTypes.digests),
  )
  if (answer.first !== first || answer.digests.length !== count * digestBytes) throw outOfTurn()
  return answer.digests
}

function digestAt(digests: Buffer | null, index: number): Buffer {
  return digests?.subarray(index * digestBytes, (index + 1) * digestBytes) ?? zeroDigest
}

function zeroSubtreesFrom(digests: Buffer | null, index: number): number {
  const count = (digests?.length ?? 0) / digestBytes
  let end = index
  for (; end < count; end++) if (!digestAt(digests, end).equals(zeroDigest)) break
  return end - index
}

/** Consecutive extents but for what is left out. `onTaken` hears where the next begins. */
function* extentsOf(disk: SourceDisk, first: number, end: number, onTaken?: (next: number) => void): Generator<BlockRun, undefined> {
  for (let block = first; block < end;) {
    const hole = disk.excluded.nextRun(block, maxExtentBlocks)
    if (hole?.first === block) {
      block += hole.count
      continue
    }
    const count = Math.min(maxExtentBlocks, end - block, hole ? hole.first - block : Infinity)
    onTaken?.(block + count)
    yield { first: block, count }
    block += count
  }
}

/** Runs of `blocks` before `end`, in the disk's order; they are taken out of `todo`. */
export function* runsOf(disk: SourceDisk, blocks = disk.todo, end = disk.geometry.blockCount): Generator<BlockRun, undefined> {
  for (let run = blocks.nextRun(0, maxExtentBlocks); run && run.first < end; run = blocks.nextRun(run.first + run.count, maxExtentBlocks)) {
    run.count = Math.min(run.count, end - run.first)
    disk.todo.clear(run.first, run.count)
    yield run
  }
}

function outOfTurn(): TransferError {
  return new TransferError('PROTOCOL', 'The destination answered about other parts of the disk than it was asked about.', {
    retryable: true,
  })
}
