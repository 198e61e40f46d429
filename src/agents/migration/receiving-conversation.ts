/** The destination's side of one connection: takes the source's frames in turn, bounded, and answers each. */
import type { Channel } from '../../transfer/channel.ts'
import {
  decodeJson,
  decodeSubtree,
  decodeSubtreeRange,
  encodeJson,
  encodePeerWait,
  encodeSubtree,
  encodeSubtreeRange,
  frameTypes,
} from '../../transfer/data-messages.ts'
import { decodeExclusion } from '../../transfer/exclusion-messages.ts'
import { createBlockBitmap, type BlockBitmap } from '../../transfer/block-bitmap.ts'
import type { Frame } from '../../transfer/frame.ts'
import { TransferError } from '../../transfer/transfer-error.ts'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Receiver } from './receiver.ts'

/** Work taken off the wire and not finished: the source feels the rest. */
const maxQueuedBytes = 8 * 1024 * 1024
/** What a frame takes besides its payload while it waits. */
const frameCostBytes = 512

export interface ReceivingOptions {
  receiverId: string
  /** The receiver for a disk of that many bytes; scans the disk the first time where that is needed. */
  openReceiver(diskBytes: number): Promise<Receiver>
}

/** Serves until the channel closes, and resolves when no work of this connection is left. */
export async function serveSource(channel: Channel, { receiverId, openReceiver }: ReceivingOptions): Promise<void> {
  let receiver: Receiver | null = null
  let queuedBytes = 0
  /** Of the set that the source is naming, piece by piece. */
  let excluding: BlockBitmap | null = null
  let excludedEnd = 0
  const running = new Set<Promise<void>>()
  let turn = Promise.resolve()

  function opened(): Receiver {
    if (receiver) return receiver
    throw new TransferError('PROTOCOL', 'The source sent data before it opened the round.', { retryable: true })
  }
  function fail(error: unknown): void {
    const failure = error instanceof TransferError ? error : new TransferError('INTERNAL', String(error), { retryable: true, cause: error })
    const { code, message, retryable } = failure
    void sayAndClose(encodeJson({ code, message, retryable }), failure)
  }
  async function sayAndClose(said: Buffer, failure: TransferError): Promise<void> {
    await channel.send(frameTypes.failed, 0, said).catch(() => {})
    // The source reads it before it sees the connection's end.
    await sleep(200)
    channel.close(failure)
  }
  function taken(frame: Frame): void {
    queuedBytes += frame.payloadBytes + frameCostBytes
    if (queuedBytes > maxQueuedBytes) channel.pause()
  }
  function finished(frame: Frame): void {
    queuedBytes -= frame.payloadBytes + frameCostBytes
    if (queuedBytes <= maxQueuedBytes) channel.resume()
  }
  /** Runs beside what runs; `queuedBytes` bounds how much of it. */
  function beside(frame: Frame, work: () => Promise<boolean>): void {
    taken(frame)
    const job = work()
      .then(async (equal) => {
        if (!equal) return channel.send(frameTypes.mismatch, frame.sequence)
        // A queue that is never long is fed too slowly.
        const wait = queuedBytes > maxQueuedBytes / 2 ? opened().slowerStage : 'LINK'
        return channel.send(frameTypes.verified, frame.sequence, encodePeerWait(wait))
      })
      .catch(fail)
      .finally(() => {
        running.delete(job)
        finished(frame)
      })
    running.add(job)
  }
  /** Runs after everything before it. */
  function inTurn(frame: Frame, work: () => Promise<void>): void {
    taken(frame)
    const before = turn
    turn = (async () => {
      await before
      await Promise.all(running)
      await work()
    })()
      .catch(fail)
      .finally(() => finished(frame))
  }

  async function answer(frame: Frame): Promise<void> {
    switch (frame.type) {
      case frameTypes.open: {
        const { diskBytes } = decodeJson(frame)
        if (typeof diskBytes !== 'number')
          throw new TransferError('PROTOCOL', 'The source opened a round without a size.', { retryable: true })
        receiver = await openReceiver(diskBytes)
        return channel.send(
          frameTypes.opened,
          frame.sequence,
          encodeJson({ receiverId, allZero: receiver.excluded.count === 0 && receiver.tree.allZero }),
        )
      }
      case frameTypes.digestsWanted: {
        const { first, count } = decodeSubtreeRange(frame)
        const { tree } = opened()
        if (first + count > tree.subtreeCount)
          throw new TransferError('PROTOCOL', 'The source asked for subtrees that are not on the disk.', { retryable: true })
        const digests = Array.from({ length: count }, (_, index) => tree.subtreeDigest(first + index))
        return channel.send(frameTypes.digests, frame.sequence, encodeSubtreeRange(first, 0).subarray(0, 4), Buffer.concat(digests))
      }
      case frameTypes.leavesWanted: {
        const subtree = decodeSubtree(frame)
        const { tree } = opened()
        if (subtree >= tree.subtreeCount)
          throw new TransferError('PROTOCOL', 'The source asked for a subtree that is not on the disk.', { retryable: true })
        return channel.send(frameTypes.leaves, frame.sequence, encodeSubtree(subtree, await tree.leaves(subtree)))
      }
      case frameTypes.exclude: {
        const { runs, last } = decodeExclusion(frame, excludedEnd)
        const { geometry, exclude } = opened()
        const end = (runs.at(-1)?.first ?? 0) + (runs.at(-1)?.count ?? 0)
        if (end > geometry.blockCount)
          throw new TransferError('PROTOCOL', 'The source left out blocks that are not on the disk.', { retryable: true })
        const wanted = (excluding ??= createBlockBitmap(geometry.blockCount))
        for (const { first, count } of runs) wanted.set(first, count)
        excludedEnd = last ? 0 : end
        if (!last) return
        excluding = null
        await exclude(wanted)
        return channel.send(frameTypes.excludeDone, frame.sequence)
      }
      case frameTypes.barrier:
        await opened().flush()
        return channel.send(frameTypes.barrierDone, frame.sequence, opened().tree.root())
      default:
        throw new TransferError('PROTOCOL', `The source sent a frame of unknown type ${frame.type}.`, { retryable: true })
    }
  }

  channel.start((frame) => {
    if (frame.type === frameTypes.extent) beside(frame, () => opened().receiveExtent(frame))
    else if (frame.type === frameTypes.zeros) beside(frame, () => opened().receiveZeros(frame))
    else inTurn(frame, () => answer(frame))
  })
  await channel.closed
  await turn
  await Promise.all(running)
}
