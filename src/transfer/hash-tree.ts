/**
 * The hash tree over a disk: leaf = digest of a 64 KiB block (32 zero bytes for an all-zero one), fan-out 256. A node is the digest of its 256 children,
 * again 32 zero bytes where all of them are zero, so that an empty part of the disk costs neither memory nor time.
 *
 * Leaves live in subtrees of 256 (16 MiB of disk, 8 KiB of leaves). Past the budget the least recently used subtrees keep their digest only; their leaves come
 * back from `loadLeaves` when asked for, and are believed only when they hash to the digest that was kept.
 */
import { blockDigest, digestBytes, zeroDigest } from './block-digest.ts'
import { TransferError } from './transfer-error.ts'

export const subtreeBlocks = 256
const nodeBytes = subtreeBlocks * digestBytes
const maxSpare = 16

export interface HashTree {
  readonly subtreeCount: number
  /** To be called before such blocks are written to a disk that dropped leaves are loaded from: afterwards they would not hash to what was kept. */
  prepare(first: number, count: number): Promise<void>
  /** Sets consecutive leaves, which may span subtrees; `digests` holds 32 bytes a block. */
  update(first: number, digests: Buffer): Promise<void>
  /** The 256 leaves of a subtree (8 KiB). Read them before the next await, and don't write to them. */
  leaves(subtree: number): Promise<Buffer>
  subtreeDigest(subtree: number): Buffer
  /** 32 bytes; costs what changed since the last call. */
  root(): Buffer
  readonly allZero: boolean
  /** Memory held by leaves and nodes, in bytes. */
  readonly heldBytes: number
}

export interface HashTreeOptions {
  blockCount: number
  leafBudgetBytes: number
  /** Gives the leaves of a subtree whose leaves were dropped, 8 KiB. */
  loadLeaves: (subtree: number) => Promise<Buffer>
}

export function createHashTree({ blockCount, leafBudgetBytes, loadLeaves }: HashTreeOptions): HashTree {
  const subtreeCount = Math.ceil(blockCount / subtreeBlocks)
  const maxResident = Math.max(2, Math.floor(leafBudgetBytes / nodeBytes))
  /** In order of use: the first is the coldest. */
  const resident = new Map<number, Buffer>()
  const staleSubtrees = new Set<number>()
  const stalePages = new Set<number>()
  /** levels[0] holds the subtrees' digests, 256 a page; levels[n + 1] the digests of the pages of levels[n]. */
  const levels = createLevels(subtreeCount)

  function put(level: number, index: number, digest: Buffer): void {
    const pages = levels[level]
    if (!pages) throw new RangeError(`The tree has no level ${level}.`)
    const pageIndex = Math.floor(index / subtreeBlocks)
    let page = pages.get(pageIndex)
    if (!page) {
      if (digest.equals(zeroDigest)) return
      page = Buffer.alloc(nodeBytes)
      pages.set(pageIndex, page)
    }
    digest.copy(page, (index % subtreeBlocks) * digestBytes)
  }

  function get(level: number, index: number): Buffer {
    const page = levels[level]?.get(Math.floor(index / subtreeBlocks))
    const at = (index % subtreeBlocks) * digestBytes
    return page ? page.subarray(at, at + digestBytes) : zeroDigest
  }

  function settle(subtree: number): void {
    const leaves = resident.get(subtree)
    if (!leaves || !staleSubtrees.delete(subtree)) return
    put(0, subtree, nodeDigest(leaves))
    stalePages.add(Math.floor(subtree / subtreeBlocks))
  }

  function admit(subtree: number, leaves: Buffer): Buffer {
    resident.delete(subtree)
    resident.set(subtree, leaves)
    for (const [coldest] of resident) {
      if (resident.size <= maxResident) break
      settle(coldest)
      const dropped = resident.get(coldest)
      resident.delete(coldest)
      // Used again rather than left to the garbage collector, which is slow to see memory outside its heap.
      if (dropped && spare.length < maxSpare) spare.push(dropped)
    }
    return leaves
  }
  const spare: Buffer[] = []

  async function open(subtree: number): Promise<Buffer> {
    if (!(subtree >= 0 && subtree < subtreeCount)) throw new RangeError(`Subtree ${subtree} is not one of ${subtreeCount}.`)
    const held = resident.get(subtree)
    if (held) return admit(subtree, held)
    const digest = get(0, subtree)
    if (digest.equals(zeroDigest)) return admit(subtree, spare.pop()?.fill(0) ?? Buffer.alloc(nodeBytes))
    const loaded = await loadLeaves(subtree)
    // Somebody else may have opened it meanwhile, and changed it since.
    const meanwhile = resident.get(subtree)
    if (meanwhile) return admit(subtree, meanwhile)
    if (loaded.length !== nodeBytes || !nodeDigest(loaded).equals(get(0, subtree))) {
      throw new TransferError(
        'VERIFICATION_FAILED',
        `Blocks from ${subtree * subtreeBlocks} on are not what they were when they were hashed; compare the disk again.`,
        {
          retryable: true,
        },
      )
    }
    return admit(subtree, loaded)
  }

  async function prepare(first: number, count: number): Promise<void> {
    for (let subtree = Math.floor(first / subtreeBlocks); subtree * subtreeBlocks < first + count; subtree++)
      if (resident.has(subtree) || !get(0, subtree).equals(zeroDigest)) await open(subtree)
  }

  async function update(first: number, digests: Buffer): Promise<void> {
    const end = first + digests.length / digestBytes
    if (first < 0 || end > blockCount) throw new RangeError(`Blocks ${first} to ${end} are not on a disk of ${blockCount} blocks.`)
    for (let block = first; block < end;) {
      const subtree = Math.floor(block / subtreeBlocks)
      const stop = Math.min(end, (subtree + 1) * subtreeBlocks)
      const from = (block - first) * digestBytes
      const part = digests.subarray(from, from + (stop - block) * digestBytes)
      // An all-zero piece of an all-zero subtree: nothing to hold.
      const untouched = !resident.has(subtree) && get(0, subtree).equals(zeroDigest) && isZero(part)
      if (!untouched) {
        const leaves = await open(subtree)
        part.copy(leaves, (block % subtreeBlocks) * digestBytes)
        staleSubtrees.add(subtree)
      }
      block = stop
    }
  }

  function root(): Buffer {
    for (const subtree of staleSubtrees) settle(subtree)
    let changed = [...stalePages]
    stalePages.clear()
    for (let level = 0; level + 1 < levels.length; level++) {
      for (const page of changed) put(level + 1, page, nodeDigest(levels[level]?.get(page)))
      changed = [...new Set(changed.map((page) => Math.floor(page / subtreeBlocks)))]
    }
    // The shape is part of what is compared: equal contents of unequal disks are not equal.
    const shape = Buffer.alloc(8)
    shape.writeBigUInt64BE(BigInt(blockCount))
    return blockDigest(Buffer.concat([shape, nodeDigest(levels.at(-1)?.get(0))]))
  }

  return {
    subtreeCount,
    prepare,
    update,
    leaves: open,
    subtreeDigest(subtree) {
      settle(subtree)
      return get(0, subtree)
    },
    root,
    get allZero() {
      root()
      return nodeDigest(levels.at(-1)?.get(0)).equals(zeroDigest)
    },
    get heldBytes() {
      return (resident.size + levels.reduce((pages, level) => pages + level.size, 0)) * nodeBytes
    },
  }
}

function createLevels(subtreeCount: number): Map<number, Buffer>[] {
  const levels: Map<number, Buffer>[] = []
  for (let width = subtreeCount; ; width = Math.ceil(width / subtreeBlocks)) {
    levels.push(new Map())
    if (width <= subtreeBlocks) return levels
  }
}

function nodeDigest(children: Buffer | undefined): Buffer {
  return !children || isZero(children) ? zeroDigest : blockDigest(children)
}

const zeroNode = Buffer.alloc(nodeBytes)
function isZero(data: Buffer): boolean {
  return data.equals(data.length === nodeBytes ? zeroNode : zeroNode.subarray(0, data.length))
}
