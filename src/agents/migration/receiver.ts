/**
 * The destination's end of the copy: writes what comes, reads it again from its own disk, compares it with what the source says, and keeps the tree of
 * what it read. Leaves never come from what was received.
 *
 * Lanes work side by side; the source sends no block twice before the first time is answered. A connection's successor waits until its lanes have ended.
 */
import { zstdDecompress } from 'node:zlib'
import { createAlignedBuffers } from '../../transfer/aligned-buffers.ts'
import { digestBytes } from '../../transfer/block-digest.ts'
import { createBlockBitmap, type BlockBitmap } from '../../transfer/block-bitmap.ts'
import { blockBytes, diskGeometry, extentBytes, maxExtentBlocks, type DiskGeometry } from '../../transfer/block-grain.ts'
import { decodeExtent, decodeZeros } from '../../transfer/data-messages.ts'
import { runsOutside } from '../../transfer/exclusion-messages.ts'
import type { Frame } from '../../transfer/frame.ts'
import { createHashTree, subtreeBlocks, type HashTree } from '../../transfer/hash-tree.ts'
import { TransferError } from '../../transfer/transfer-error.ts'
import { leavesOf } from './block-digests.ts'
import type { DiskDevice } from './disk-device.ts'
import { bySubtree, withoutExcluded } from './exclusion.ts'
import { rereadLeaves } from './reread-leaves.ts'

const leafBudgetBytes = 16 * 1024 * 1024
const transferBuffers = 6
const rereadBuffers = 2

export interface Receiver {
  readonly geometry: DiskGeometry
  /** Of what was read from the own disk. */
  readonly tree: HashTree
  /** True when what the disk holds now is what the source says. Throws TransferError. */
  receiveExtent(frame: Frame): Promise<boolean>
  receiveZeros(frame: Frame): Promise<boolean>
  /** Leaves exactly these blocks out of the root; what was left out and is not any more is read again. */
  exclude(wanted: BlockBitmap): Promise<void>
  readonly excluded: BlockBitmap
  flush(): Promise<void>
  /** What took longer lately: disk or CPU. */
  readonly slowerStage: 'DESTINATION_DISK' | 'DESTINATION_CPU'
}

/** `empty`: the disk is known to be all zero; otherwise it is read and hashed from end to end. `diskBytes` is the source's size. */
export async function createReceiver(device: DiskDevice, diskBytes: number, empty: boolean, signal: AbortSignal): Promise<Receiver> {
  const geometry = diskGeometry(diskBytes)
  const buffers = createAlignedBuffers(transferBuffers, maxExtentBlocks * blockBytes)
  // Of its own: a lane that holds a transfer buffer may have to wait for leaves to be read again, and six such lanes would wait for ever.
  const forRereading = createAlignedBuffers(rereadBuffers, maxExtentBlocks * blockBytes)
  const excluded = createBlockBitmap(geometry.blockCount)
  const tree = createHashTree({
    blockCount: geometry.blockCount,
    leafBudgetBytes,
    loadLeaves: async (subtree) => withoutExcluded(await rereadLeaves(device, geometry, forRereading, subtree), subtree, excluded),
  })
  if (!empty) await scan()

  async function scan(): Promise<void> {
    let next = 0
    async function lane(): Promise<void> {
      const buffer = await buffers.acquire()
      try {
        while (next < geometry.blockCount) {
          signal.throwIfAborted()
          const first = next
          next += maxExtentBlocks
          const piece = buffer.subarray(0, extentBytes(geometry, first, Math.min(maxExtentBlocks, geometry.blockCount - first)))
          await device.read(piece, first)
          await tree.update(first, leavesOf(piece))
        }
      } finally {
        buffers.release(buffer)
      }
    }
    await Promise.all([lane(), lane()])
  }

  let diskMs = 0
  let cpuMs = 0

  function checkOnDisk(first: number, count: number): void {
    if (first + count <= geometry.blockCount) return
    throw new TransferError(
      'PROTOCOL',
      `The source sent blocks ${first} to ${first + count - 1} of a disk of ${geometry.blockCount} blocks.`,
      { retryable: true },
    )
  }

  /** Writes the buffer's content, spoils each block of it so that nothing but the disk can make it whole, reads it again, and puts what it read into the tree. */
  async function writeAndReread(content: Buffer, first: number): Promise<Buffer> {
    const startedAt = performance.now()
    await tree.prepare(first, Math.ceil(content.length / blockBytes))
    await device.write(content, first)
    for (let at = 0; at < content.length; at += blockBytes) content.fill(0x5a, at, Math.min(at + 512, content.length))
    await device.read(content, first)
    const readAt = performance.now()
    const leaves = leavesOf(content)
    // Old times fade, so that the answer follows the copy.
    diskMs = diskMs * 0.95 + (readAt - startedAt)
    cpuMs = cpuMs * 0.95 + (performance.now() - readAt)
    await tree.update(first, leaves)
    return leaves
  }

  return {
    geometry,
    tree,
    async receiveExtent(frame) {
      const { extent, data, dataBytes } = decodeExtent(frame)
      checkOnDisk(extent.first, extent.count)
      const bytes = extentBytes(geometry, extent.first, extent.count)
      const buffer = await buffers.acquire()
      try {
        const content = buffer.subarray(0, bytes)
        if (extent.codec === 'ZSTD') await unpack(data, content)
        else fill(content, data, dataBytes)
        return (await writeAndReread(content, extent.first)).equals(extent.digests)
      } finally {
        buffers.release(buffer)
      }
    },
    async receiveZeros(frame) {
      const { first, count } = decodeZeros(frame)
      checkOnDisk(first, count)
      const buffer = await buffers.acquire()
      try {
        for (let block = first; block < first + count; block += maxExtentBlocks) {
          const length = Math.min(maxExtentBlocks, first + count - block)
          const content = buffer.subarray(0, extentBytes(geometry, block, length)).fill(0)
          const leaves = await writeAndReread(content, block)
          if (!leaves.equals(Buffer.alloc(length * digestBytes))) return false
        }
        return true
      } finally {
        buffers.release(buffer)
      }
    },
    excluded,
    async exclude(wanted) {
      for (const { first, count } of bySubtree(runsOutside(wanted, excluded))) {
        await tree.update(first, Buffer.alloc(count * digestBytes))
        excluded.set(first, count)
      }
      for (const { first, count } of bySubtree(runsOutside(excluded, wanted))) {
        const subtree = Math.floor(first / subtreeBlocks)
        const at = (first % subtreeBlocks) * digestBytes
        const held = await rereadLeaves(device, geometry, forRereading, subtree)
        await tree.update(first, held.subarray(at, at + count * digestBytes))
        excluded.clear(first, count)
      }
    },
    flush: () => device.flush(),
    get slowerStage() {
      return diskMs > cpuMs ? 'DESTINATION_DISK' : 'DESTINATION_CPU'
    },
  }
}

function fill(content: Buffer, pieces: Buffer[], dataBytes: number): void {
  if (dataBytes !== content.length) throw badData(`${dataBytes} bytes instead of ${content.length}`)
  let at = 0
  for (const piece of pieces) at += piece.copy(content, at)
}

async function unpack(pieces: Buffer[], content: Buffer): Promise<void> {
  const unpacked = await new Promise<Buffer>((resolve, reject) => {
    zstdDecompress(Buffer.concat(pieces), { chunkSize: content.length, maxOutputLength: content.length }, (error, result) =>
      error ? reject(badData(`zstd: ${error.message}`)) : resolve(result),
    )
  })
  fill(content, [unpacked], unpacked.length)
}

function badData(reason: string): TransferError {
  return new TransferError('PROTOCOL', `The source sent an extent whose data is broken: ${reason}. Nothing of it was written.`, {
    retryable: true,
  })
}
