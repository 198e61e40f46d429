import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { rolldown } from 'rolldown'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createHashTree } from '../../src/transfer/hash-tree.ts'

const sources = resolve(import.meta.dirname, '../../src/transfer')
const nothingDropped = () => Promise.reject(new Error('no leaves were to be dropped'))
const ample = 1024 * 1024

function treeOf(blockCount: number) {
  return createHashTree({ blockCount, leafBudgetBytes: ample, loadLeaves: nothingDropped })
}

describe('the hash tree', () => {
  test('has one root for one content, in whatever order it became so', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(2999), fc.nat(5)), { maxLength: 40 }), async (writes) => {
        const [once, stepwise] = [treeOf(3000), treeOf(3000)]
        const final = new Map<number, number>()
        for (const [block, value] of writes) {
          await stepwise.update(block, Buffer.alloc(32, value))
          stepwise.root()
          final.set(block, value)
        }
        for (const [block, value] of [...final].toReversed()) await once.update(block, Buffer.alloc(32, value))
        expect(once.root()).toEqual(stepwise.root())
      }),
      { numRuns: 50 },
    )
  })

  test('tells any two contents apart, and any two sizes', async () => {
    const roots = new Set<string>()
    for (let block = 0; block < 600; block++) {
      const tree = treeOf(600)
      await tree.update(block, Buffer.alloc(32, 1))
      roots.add(tree.root().toString('hex'))
    }
    expect(roots.size).toBe(600)
    expect(treeOf(600).root()).not.toEqual(treeOf(601).root())
  })

  test('an all-zero disk is all zero again after what was written is zero again', async () => {
    const tree = treeOf(100_000)
    const empty = tree.root()
    await tree.update(70_000, Buffer.alloc(32, 9))
    expect(tree.allZero).toBe(false)
    await tree.update(70_000, Buffer.alloc(32))
    expect(tree.allZero).toBe(true)
    expect(tree.root()).toEqual(empty)
  })

  test('drops cold leaves beyond its budget, and has the same root with them loaded again', async () => {
    const full = treeOf(256 * 20)
    const leaves = Array.from({ length: 20 }, () => randomBytes(8192))
    const loaded: number[] = []
    const small = createHashTree({
      blockCount: 256 * 20,
      leafBudgetBytes: 3 * 8192,
      async loadLeaves(subtree) {
        loaded.push(subtree)
        return Buffer.from(leaves[subtree]!)
      },
    })
    for (const tree of [full, small]) for (const [subtree, digests] of leaves.entries()) await tree.update(subtree * 256, digests)
    expect(small.root()).toEqual(full.root())
    for (const tree of [full, small]) await tree.update(3, Buffer.alloc(32, 4))
    expect(small.root()).toEqual(full.root())
    expect(loaded).toEqual([0])
  })

  test('does not believe leaves that hash to something else than it kept', async () => {
    const tree = createHashTree({ blockCount: 256 * 5, leafBudgetBytes: 2 * 8192, loadLeaves: async () => randomBytes(8192) })
    for (let subtree = 0; subtree < 5; subtree++) await tree.update(subtree * 256, randomBytes(8192))
    await expect(tree.leaves(0)).rejects.toMatchObject({ code: 'VERIFICATION_FAILED' })
  })

  test('with its bitmaps, a sparse disk of 4 TiB fits an agent of 128 MiB', async () => {
    // Bundled as the agent is: stripping types in the process would cost 30 MiB that no agent pays.
    const directory = mkdtempSync(join(tmpdir(), 'portolan-tree-'))
    try {
      const entry = join(directory, 'entry.ts')
      writeFileSync(
        entry,
        `
        import { createHashTree } from ${JSON.stringify(join(sources, 'hash-tree.ts'))}
        import { createBlockBitmap } from ${JSON.stringify(join(sources, 'block-bitmap.ts'))}
        const blockCount = 2 ** 26
        const digests = Buffer.alloc(8192, 7)
        const tree = createHashTree({ blockCount, leafBudgetBytes: 16 * 2 ** 20, loadLeaves: async () => digests })
        const bitmaps = [0, 1, 2].map(() => createBlockBitmap(blockCount))
        for (let subtree = 0; subtree < 2 ** 18; subtree += 29) await tree.update(subtree * 256, digests)
        for (const bitmap of bitmaps) for (let block = 0; block < blockCount; block += 32768) bitmap.set(block, 16)
        tree.root()
        console.log(process.resourceUsage().maxRSS * 1024)`,
      )
      const file = join(directory, 'tree.mjs')
      const bundle = await rolldown({ input: entry, platform: 'node' })
      await bundle.write({ file, format: 'esm' })
      await bundle.close()
      const maxRss = Number(execFileSync(process.execPath, [file], { encoding: 'utf8' }))
      expect(maxRss).toBeLessThan(128 * 1024 * 1024)
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })
})
