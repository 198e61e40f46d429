/**
 * Which blocks the source leaves out, for the destination to leave out of its root as well. All of them, every time, since that is what the two must agree on.
 *
 *   exclude        S   1 byte: 1 in the last piece, else 0; then 10 bytes a run: first block (6), count (4). Runs ascend and don't touch, over all pieces.
 *   excludeDone    D   empty
 *
 * Checked here: lengths, numbers, order. Whether a block is on the disk is the receiver's check.
 */
import type { BlockBitmap, BlockRun } from './block-bitmap.ts'
import { blockDigest } from './block-digest.ts'
import type { Frame } from './frame.ts'
import { TransferError } from './transfer-error.ts'

const runBytes = 10
const maxRunsAPiece = 100_000

/** At least one piece: an empty set is said too. */
export function encodeExclusion(blocks: BlockBitmap, runsAPiece = maxRunsAPiece): Buffer[] {
  const runs = [...runsIn(blocks)]
  const pieces: Buffer[] = []
  do {
    const part = runs.splice(0, runsAPiece)
    const piece = Buffer.alloc(1 + part.length * runBytes)
    piece.writeUInt8(runs.length === 0 ? 1 : 0, 0)
    part.forEach(({ first, count }, index) => {
      piece.writeUIntBE(first, 1 + index * runBytes, 6)
      piece.writeUInt32BE(count, 7 + index * runBytes)
    })
    pieces.push(piece)
  } while (runs.length > 0)
  return pieces
}

/** One piece. `after` is where the piece before ended, 0 for the first. Throws TransferError PROTOCOL. */
export function decodeExclusion(frame: Frame, after: number): { runs: BlockRun[]; last: boolean } {
  const payload = Buffer.concat(frame.payload)
  if (payload.length < 1 || (payload.length - 1) % runBytes !== 0 || payload.readUInt8(0) > 1) throw malformed(`${payload.length} bytes`)
  const runs: BlockRun[] = []
  let from = after
  for (let at = 1; at < payload.length; at += runBytes) {
    const first = payload.readUIntBE(at, 6)
    const count = payload.readUInt32BE(at + 6)
    if (count < 1 || first < from) throw malformed(`a run of ${count} blocks at ${first}, after block ${from}`)
    runs.push({ first, count })
    from = first + count
  }
  return { runs, last: payload.readUInt8(0) === 1 }
}

/** What both sides compare: the tree's root, bound to the set that was left out of it, so that equal roots mean equal sets too. */
export function rootWithExclusion(root: Buffer, excluded: BlockBitmap): Buffer {
  return excluded.count === 0 ? root : blockDigest(Buffer.concat([root, ...encodeExclusion(excluded)]))
}

export function* runsIn(blocks: BlockBitmap): Generator<BlockRun, undefined> {
  const all = Number.MAX_SAFE_INTEGER
  for (let run = blocks.nextRun(0, all); run; run = blocks.nextRun(run.first + run.count, all)) yield run
}

/** What is set in `blocks` and not in `other`. */
export function* runsOutside(blocks: BlockBitmap, other: BlockBitmap): Generator<BlockRun, undefined> {
  for (const { first, count } of runsIn(blocks)) {
    let from = first
    const end = first + count
    for (let hole = other.nextRun(first, count); hole && hole.first < end; hole = other.nextRun(hole.first + hole.count, count)) {
      if (hole.first > from) yield { first: from, count: hole.first - from }
      from = hole.first + hole.count
    }
    if (from < end) yield { first: from, count: end - from }
  }
}

function malformed(found: string): TransferError {
  return new TransferError(
    'PROTOCOL',
    `The source named blocks to leave out in a way that can't be: ${found}. The connection is given up and made again.`,
    { retryable: true },
  )
}
