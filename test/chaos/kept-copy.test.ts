import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { blockBytes, differingBlocks } from '../support/compare-disks.ts'
import { leastKeptBytes, recopiedShare, untouchedBlocks } from './kept-copy.ts'

const mebibyte = 1024 ** 2
let directory: string
beforeEach(async () => void (directory = await mkdtemp(join(tmpdir(), 'kept-'))))
afterEach(() => rm(directory, { recursive: true, force: true }))

/** One letter a block; a space is a block of zeros. */
async function disk(name: string, blocks: string): Promise<string> {
  const path = join(directory, name)
  await writeFile(path, Buffer.concat([...blocks].map((letter) => Buffer.alloc(blockBytes, letter === ' ' ? 0 : letter))))
  return path
}

test('what nobody wrote since, and is not in the copy, was lost there; what was written or never held anything was not', async () => {
  const image = await disk('image', 'abcd  ')
  const source = await disk('source', 'abXd Y')
  const copy = await disk('copy', 'a c   ')
  const differing = await differingBlocks(source, copy)
  expect(differing).toEqual([1, 2, 3, 5])
  expect(await untouchedBlocks(differing, source, image)).toBe(2)
})

test('verified blocks that were lost count as sent again, though they differed when the retry began', () => {
  const sent = { verifiedBytes: 100 * mebibyte, changedBytes: 50 * mebibyte, differingBytes: 50 * mebibyte }
  expect(recopiedShare({ ...sent, lostBytes: 0 })).toBe(0)
  expect(recopiedShare({ ...sent, lostBytes: 40 * mebibyte })).toBe(0.4)
  expect(recopiedShare({ ...sent, changedBytes: 53 * mebibyte, lostBytes: 0 })).toBe(0.03)
})

test('a copy that never was whole and has lost 40 % is too small, whatever the workload may have punched out of it', () => {
  expect(leastKeptBytes(100 * mebibyte, false)).toBeGreaterThan(60 * mebibyte)
  expect(leastKeptBytes(16 * mebibyte, false)).toBe(8 * mebibyte)
  expect(leastKeptBytes(100 * mebibyte, true)).toBe(50 * mebibyte)
})
