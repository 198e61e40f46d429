/**
 * Copies extents to the destination over one connection. Lanes work side by side, each takes an extent through read, hash, compression and sending, so that
 * the stages of different extents overlap. At most `windowBlocks` are under way to be verified.
 *
 * Whatever ends a session early leaves every block that was taken and not verified in `todo` and `unverified` (see source-disk.ts).
 */
import { digestBytes, zeroDigest } from '../../transfer/block-digest.ts'
import type { BlockRun } from '../../transfer/block-bitmap.ts'
import { blockBytes, extentBytes } from '../../transfer/block-grain.ts'
import { decodeLeaves, encodeExtentHead, encodeSubtree, encodeZeros, frameTypes } from '../../transfer/data-messages.ts'
import { subtreeBlocks } from '../../transfer/hash-tree.ts'
import { TransferError } from '../../transfer/transfer-error.ts'
import { leavesOf } from './block-digests.ts'
import type { Compression } from './compression.ts'
import type { DataConnection } from './data-link.ts'
import { createPeerConversation, type PeerConversation } from './peer-conversation.ts'
import type { RoundMeter } from './round-meter.ts'
import type { SourceDisk } from './source-disk.ts'

const lanes = 4
const windowBlocks = 256
const maxMismatches = 3

/**
 * What the destination has where an extent goes: AS_IN_TREE what the tree says, ZERO nothing. HASH_ONLY sends nothing: the tree takes the extent's digests,
 * to be compared with the destination's.
 */
export type Known = 'AS_IN_TREE' | 'ZERO' | 'HASH_ONLY'

export interface CopySession {
  readonly conversation: PeerConversation
  /** Ends when every extent was taken and sent; rejects with the first lane's error, after all lanes have ended. */
  copy(extents: Iterator<BlockRun>, known: Known): Promise<void>
  /** Until nothing is under way any more. */
  allVerified(): Promise<void>
}

export function createCopySession(
  disk: SourceDisk,
  connection: DataConnection,
  meter: RoundMeter,
  compression: Compression,
  signal: AbortSignal,
): CopySession {
  const underWay = new Map<number, BlockRun>()
  let blocksUnderWay = 0
  let wake: (() => void)[] = []
  const mismatches = new Map<number, number>()

  const conversation = createPeerConversation(connection.channel, {
    verified(sequence, peerWait) {
      meter.peerWait = peerWait
      const run = settle(sequence)
      disk.unverified.clear(run.first, run.count)
      meter.verifiedBlocks += run.count
      compression.arrived(run.count * blockBytes)
    },
    mismatch(sequence) {
      const run = settle(sequence)
      const times = (mismatches.get(run.first) ?? 0) + 1
      mismatches.set(run.first, times)
      disk.todo.set(run.first, run.count)
      if (times < maxMismatches) return
      throw new TransferError(
        'VERIFICATION_FAILED',
        `The destination read blocks ${run.first} to ${run.first + run.count - 1} ${times} times otherwise than they were written; its disk is not to be trusted. The source is untouched.`,
        { retryable: false },
      )
    },
  })
  let closed: TransferError | null = null
  void noteClosing()
  disk.askLeaves = async (subtree) => {
    const answer = decodeLeaves(await conversation.ask(frameTypes.leavesWanted, encodeSubtree(subtree), frameTypes.leaves))
    if (answer.subtree !== subtree)
      throw new TransferError('PROTOCOL', 'The destination answered about another subtree.', { retryable: true })
    return answer.leaves
  }

  async function noteClosing(): Promise<void> {
    closed = await connection.channel.closed
    wakeAll()
  }
  function settle(sequence: number): BlockRun {
    const run = underWay.get(sequence)
    if (!run) throw new TransferError('PROTOCOL', 'The destination verified what was not sent.', { retryable: true })
    underWay.delete(sequence)
    blocksUnderWay -= run.count
    wakeAll()
    return run
  }
  function wakeAll(): void {
    const woken = wake
    wake = []
    for (const resume of woken) resume()
  }
  async function until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (closed) throw closed
      const { promise, resolve } = Promise.withResolvers<void>()
      wake.push(resolve)
      await promise
    }
  }

  async function send(run: BlockRun, data: Buffer, leaves: Buffer): Promise<void> {
    meter.changedBlocks += run.count
    const waitedFrom = performance.now()
    await until(() => blocksUnderWay + run.count <= windowBlocks)
    meter.waits.verifying += performance.now() - waitedFrom
    if (leaves.equals(Buffer.alloc(leaves.length)))
      return track(run, conversation.tell(frameTypes.zeros, encodeZeros(run.first, run.count)))
    const packed = await compression.pack(data, meter)
    const head = encodeExtentHead({ first: run.first, count: run.count, codec: packed.codec, digests: leaves })
    return track(run, conversation.tell(frameTypes.extent, head, packed.data))
  }

  async function track(run: BlockRun, told: { sequence: number; sent: Promise<void> }): Promise<void> {
    underWay.set(told.sequence, run)
    blocksUnderWay += run.count
    const sendingFrom = performance.now()
    await told.sent
    meter.waits.sending += performance.now() - sendingFrom
  }

  async function take(extent: BlockRun, known: Known, buffer: Buffer): Promise<void> {
    const data = buffer.subarray(0, extentBytes(disk.geometry, extent.first, extent.count))
    // Before the read: a write that comes later than this sets the bit again.
    disk.dirty.clear(extent.first, extent.count)
    const readFrom = performance.now()
    await disk.device.read(data, extent.first)
    const hashFrom = performance.now()
    const leaves = leavesOf(data)
    meter.waits.reading += hashFrom - readFrom
    meter.waits.hashing += performance.now() - hashFrom
    meter.scannedBlocks += extent.count
    if (known === 'HASH_ONLY') return disk.tree.update(extent.first, leaves)
    const wanted = await differing(disk, extent, leaves, known)
    for (const run of wanted) disk.unverified.set(run.first, run.count)
    await disk.tree.update(extent.first, leaves)
    for (const run of wanted) {
      const from = (run.first - extent.first) * blockBytes
      const leafFrom = (run.first - extent.first) * digestBytes
      await send(
        run,
        data.subarray(from, from + extentBytes(disk.geometry, run.first, run.count)),
        leaves.subarray(leafFrom, leafFrom + run.count * digestBytes),
      )
    }
  }

  return {
    conversation,
    async copy(extents, known) {
      let failure: unknown = null
      async function lane(): Promise<void> {
        const buffer = await disk.buffers.acquire()
        try {
          for (let next = extents.next(); !next.done; next = extents.next()) {
            try {
              await take(next.value, known, buffer)
            } catch (error) {
              if (known !== 'HASH_ONLY') disk.unverified.set(next.value.first, next.value.count)
              throw error
            }
            if (failure !== null) return
            signal.throwIfAborted()
          }
        } catch (error) {
          failure ??= error
        } finally {
          disk.buffers.release(buffer)
        }
      }
      await Promise.all(Array.from({ length: lanes }, lane))
      if (failure !== null) throw failure
    },
    allVerified: () => {
      const waitedFrom = performance.now()
      return until(() => underWay.size === 0).finally(() => (meter.waits.verifying += performance.now() - waitedFrom))
    },
  }
}

/** Runs of blocks that the destination lacks, split where data and zeros meet. */
async function differing(disk: SourceDisk, extent: BlockRun, leaves: Buffer, known: Known): Promise<BlockRun[]> {
  const runs: (BlockRun & { zero: boolean })[] = []
  for (let offset = 0; offset < extent.count; offset++) {
    const block = extent.first + offset
    const leaf = leaves.subarray(offset * digestBytes, (offset + 1) * digestBytes)
    const held = known === 'ZERO' ? zeroDigest : await leafOf(disk, block)
    if (leaf.equals(held) && !disk.unverified.has(block)) continue
    const zero = leaf.equals(zeroDigest)
    const last = runs.at(-1)
    if (last && last.zero === zero && last.first + last.count === block) last.count++
    else runs.push({ first: block, count: 1, zero })
  }
  return runs
}

async function leafOf(disk: SourceDisk, block: number): Promise<Buffer> {
  const at = (block % subtreeBlocks) * digestBytes
  return (await disk.tree.leaves(Math.floor(block / subtreeBlocks))).subarray(at, at + digestBytes)
}
