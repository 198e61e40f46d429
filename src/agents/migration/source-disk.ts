import { createAlignedBuffers, type AlignedBuffers } from '../../transfer/aligned-buffers.ts'
import { createBlockBitmap, type BlockBitmap } from '../../transfer/block-bitmap.ts'
import { blockBytes, diskGeometry, maxExtentBlocks, type DiskGeometry } from '../../transfer/block-grain.ts'
import { runsOutside } from '../../transfer/exclusion-messages.ts'
import { createHashTree, type HashTree } from '../../transfer/hash-tree.ts'
import { TransferError } from '../../transfer/transfer-error.ts'
import type { DiskDevice } from './disk-device.ts'
import { withoutExcluded } from './exclusion.ts'

/**
 * What the source agent knows of its disk against the destination's. A leaf in `tree` is what the destination holds and has verified, unless the block is
 * in `unverified`; so a block whose new digest equals its leaf need not be sent. Leaves ahead of the destination can't be had again once the tree has dropped them: such
 * blocks are sent before anything else on the next connection.
 */
export interface SourceDisk {
  geometry: DiskGeometry
  device: DiskDevice
  buffers: AlignedBuffers
  tree: HashTree
  /** Changed since it was last read, as tracking saw it. */
  dirty: BlockBitmap
  /** To be looked at before this round ends. */
  todo: BlockBitmap
  /** Sent, or meant to be sent, and not known to have arrived: has to be sent whatever the tree says. */
  unverified: BlockBitmap
  /**
   * Left out: the tree has zero leaves there, whatever the disk or the destination holds, and none of them is in `todo` or `unverified`. Only exclusion.ts
   * changes it, with a connection.
   */
  excluded: BlockBitmap
  /** What is to be left out from the next connection or round on; null where nothing was ever asked to be. */
  toExclude: BlockBitmap | null
  /** The first block that the running FULL comparison has not looked at; equals blockCount when none is due. */
  scanFrom: number
  /** Which run of the destination's agent the above is about. */
  receiverId: string | null
  /** Forgets what the destination is thought to hold: the next round is FULL, from the first block on. */
  compareAnew(): void
  /** The destination's leaves of a subtree, over the newest connection. */
  askLeaves(subtree: number): Promise<Buffer>
}

const defaultLeafBudgetBytes = 16 * 1024 * 1024
const transferBuffers = 6

export function createSourceDisk(device: DiskDevice, diskBytes: number, leafBudgetBytes = defaultLeafBudgetBytes): SourceDisk {
  const geometry = diskGeometry(diskBytes)
  const disk: SourceDisk = {
    geometry,
    device,
    buffers: createAlignedBuffers(transferBuffers, maxExtentBlocks * blockBytes),
    tree: emptyTree(),
    dirty: createBlockBitmap(geometry.blockCount),
    todo: createBlockBitmap(geometry.blockCount),
    unverified: createBlockBitmap(geometry.blockCount),
    excluded: createBlockBitmap(geometry.blockCount),
    toExclude: null,
    scanFrom: 0,
    receiverId: null,
    compareAnew() {
      disk.tree = emptyTree()
      disk.todo.clearAll()
      disk.unverified.clearAll()
      disk.scanFrom = 0
    },
    askLeaves: () => Promise.reject(new TransferError('NOT_CONNECTED', 'The destination is not connected.', { retryable: true })),
  }

  // Leaves dropped for want of memory are asked of the destination, which has the same: this disk has changed meanwhile.
  function emptyTree(): HashTree {
    const loadLeaves = async (subtree: number) => withoutExcluded(await disk.askLeaves(subtree), subtree, disk.excluded)
    return createHashTree({ blockCount: geometry.blockCount, leafBudgetBytes, loadLeaves })
  }
  return disk
}

/** What the next round has to look at. */
export function pendingBlocks({ dirty, excluded }: SourceDisk): number {
  if (excluded.count === 0) return dirty.count
  let blocks = 0
  for (const { count } of runsOutside(dirty, excluded)) blocks += count
  return blocks
}
