/**
 * What the frames between the agents carry. Source (S) is the TLS client, destination (D) the server. Numbers are big endian.
 *
 *   hello          both   JSON, see negotiate.ts; the first frame of each side
 *   open           S      JSON {diskBytes}: a round, or the rest of one, begins
 *   opened         D      JSON {receiverId, allZero}
 *   digestsWanted  S      first subtree (4), count (4)
 *   digests        D      first subtree (4), then 32 bytes a subtree
 *   leavesWanted   S      subtree (4)
 *   leaves         D      subtree (4), 256 x 32 bytes
 *   extent         S      first block (6), count (1), codec (1), count x 32 bytes of digests, data (all blocks in a row, raw or one zstd frame)
 *   zeros          S      first block (6), count (4)
 *   verified       D      sequence of an extent or zeros frame, in the header: written, read again, digests equal; one byte of what D waits for (peerWaits)
 *   mismatch       D      the same, but the digests differ
 *   barrier        S      empty: everything before it is to be on stable storage
 *   barrierDone    D      32 bytes of root
 *   ping           both   empty: the sender lives
 *   failed         D      JSON {code, message, retryable}: why the round can't go on
 *   exclude, excludeDone  see exclusion-messages.ts
 *
 * Lengths and ranges of numbers are checked here; whether a block is on the disk is the receiver's check.
 */
import { digestBytes } from './block-digest.ts'
import { maxExtentBlocks } from './block-grain.ts'
import type { Frame } from './frame.ts'
import { subtreeBlocks } from './hash-tree.ts'
import { TransferError } from './transfer-error.ts'

export const frameTypes = {
  hello: 1,
  open: 2,
  opened: 3,
  digestsWanted: 4,
  digests: 5,
  leavesWanted: 6,
  leaves: 7,
  extent: 8,
  zeros: 9,
  verified: 10,
  mismatch: 11,
  barrier: 12,
  barrierDone: 13,
  ping: 14,
  failed: 15,
  exclude: 16,
  excludeDone: 17,
} as const

/** What the destination waits for most: the link (or the source), its disk, or its CPU. Sent as the place in this list. */
export const peerWaits = ['LINK', 'DESTINATION_DISK', 'DESTINATION_CPU'] as const
export type PeerWait = (typeof peerWaits)[number]

export function encodePeerWait(wait: PeerWait): Buffer {
  return Buffer.from([peerWaits.indexOf(wait)])
}

export function decodePeerWait(frame: Frame): PeerWait {
  return peerWaits[whole(frame, 1, 'a verification').readUInt8(0)] ?? 'LINK'
}

export type ExtentCodec = 'RAW' | 'ZSTD'

export interface Extent {
  first: number
  count: number
  codec: ExtentCodec
  /** 32 bytes a block. */
  digests: Buffer
}

const extentHeadBytes = 8

/** All of an extent's payload but its data. */
export function encodeExtentHead(extent: Extent): Buffer {
  const head = Buffer.alloc(extentHeadBytes)
  head.writeUIntBE(extent.first, 0, 6)
  head.writeUInt8(extent.count, 6)
  head.writeUInt8(extent.codec === 'ZSTD' ? 1 : 0, 7)
  return Buffer.concat([head, extent.digests])
}

/** The extent, and its data in the pieces in which they came. Throws TransferError PROTOCOL. */
export function decodeExtent(frame: Frame): { extent: Extent; data: Buffer[]; dataBytes: number } {
  const head = gather(frame, 0, extentHeadBytes)
  const count = head.readUInt8(6)
  const codec = head.readUInt8(7)
  if (count < 1 || count > maxExtentBlocks || codec > 1) throw malformed('an extent', `${count} blocks with codec ${codec}`)
  const digests = gather(frame, extentHeadBytes, count * digestBytes)
  const dataAt = extentHeadBytes + digests.length
  return {
    extent: { first: head.readUIntBE(0, 6), count, codec: codec === 1 ? 'ZSTD' : 'RAW', digests },
    data: piecesFrom(frame, dataAt),
    dataBytes: frame.payloadBytes - dataAt,
  }
}

export function encodeZeros(first: number, count: number): Buffer {
  const payload = Buffer.alloc(10)
  payload.writeUIntBE(first, 0, 6)
  payload.writeUInt32BE(count, 6)
  return payload
}

export function decodeZeros(frame: Frame): { first: number; count: number } {
  const payload = whole(frame, 10, 'zeros')
  const count = payload.readUInt32BE(6)
  if (count === 0) throw malformed('zeros', 'no blocks')
  return { first: payload.readUIntBE(0, 6), count }
}

export function encodeSubtreeRange(first: number, count: number): Buffer {
  const payload = Buffer.alloc(8)
  payload.writeUInt32BE(first, 0)
  payload.writeUInt32BE(count, 4)
  return payload
}

/** Digests of so many subtrees go into one answer: 512 GiB of disk. */
export const maxDigestsAnswered = 32_768

export function decodeSubtreeRange(frame: Frame): { first: number; count: number } {
  const payload = whole(frame, 8, 'a range of subtrees')
  const count = payload.readUInt32BE(4)
  if (count < 1 || count > maxDigestsAnswered) throw malformed('a range of subtrees', `${count} of them`)
  return { first: payload.readUInt32BE(0), count }
}

export function encodeSubtree(subtree: number, digests?: Buffer): Buffer {
  const head = Buffer.alloc(4)
  head.writeUInt32BE(subtree)
  return digests ? Buffer.concat([head, digests]) : head
}

export function decodeSubtree(frame: Frame): number {
  return whole(frame, 4, 'a subtree').readUInt32BE(0)
}

export function decodeDigests(frame: Frame): { first: number; digests: Buffer } {
  const payload = gather(frame, 0, frame.payloadBytes)
  if (payload.length < 4 + digestBytes || (payload.length - 4) % digestBytes !== 0) throw malformed('digests', `${payload.length} bytes`)
  return { first: payload.readUInt32BE(0), digests: payload.subarray(4) }
}

export function decodeLeaves(frame: Frame): { subtree: number; leaves: Buffer } {
  const payload = whole(frame, 4 + subtreeBlocks * digestBytes, 'leaves')
  return { subtree: payload.readUInt32BE(0), leaves: payload.subarray(4) }
}

export function decodeRoot(frame: Frame): Buffer {
  return whole(frame, digestBytes, 'a root')
}

export function encodeJson(value: object): Buffer {
  return Buffer.from(JSON.stringify(value))
}

/** An object, of which nothing else is known yet. */
export function decodeJson(frame: Frame): Record<string, unknown> {
  if (frame.payloadBytes > 16_384) throw malformed('a JSON message', `${frame.payloadBytes} bytes`)
  try {
    const value: unknown = JSON.parse(gather(frame, 0, frame.payloadBytes).toString('utf8'))
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  throw malformed('a JSON message', 'no object')
}

function whole(frame: Frame, bytes: number, what: string): Buffer {
  if (frame.payloadBytes !== bytes) throw malformed(what, `${frame.payloadBytes} bytes instead of ${bytes}`)
  return gather(frame, 0, bytes)
}

function gather(frame: Frame, from: number, bytes: number): Buffer {
  if (from + bytes > frame.payloadBytes) throw malformed('a message', `${frame.payloadBytes} bytes, fewer than ${from + bytes}`)
  const first = frame.payload[0]
  if (first && from + bytes <= first.length) return first.subarray(from, from + bytes)
  return Buffer.concat(frame.payload).subarray(from, from + bytes)
}

function piecesFrom(frame: Frame, from: number): Buffer[] {
  let skip = from
  return frame.payload.flatMap((piece) => {
    const rest = piece.subarray(Math.min(skip, piece.length))
    skip -= piece.length - rest.length
    return rest.length > 0 ? [rest] : []
  })
}

function malformed(what: string, found: string): TransferError {
  return new TransferError('PROTOCOL', `The other agent sent ${what} that can't be: ${found}. The connection is given up and made again.`, {
    retryable: true,
  })
}
