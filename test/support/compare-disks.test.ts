import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { blockBytes, differingBlocks } from './compare-disks.ts'

let directory: string
beforeEach(async () => void (directory = await mkdtemp(join(tmpdir(), 'compare-'))))
afterEach(() => rm(directory, { recursive: true, force: true }))

test('one changed byte is found, in its block, and a hole equals zeros', async () => {
  const [left, right] = [join(directory, 'left'), join(directory, 'right')]
  await writeFile(left, Buffer.alloc(200 * blockBytes))
  await writeFile(right, '')
  await truncate(right, 200 * blockBytes)
  expect(await differingBlocks(left, right)).toEqual([])

  const changed = Buffer.alloc(200 * blockBytes)
  changed[130 * blockBytes + 7] = 1
  await writeFile(right, changed)
  expect(await differingBlocks(left, right)).toEqual([130])
})

test('an image that is longer differs in the blocks that the other one lacks', async () => {
  const [left, right] = [join(directory, 'left'), join(directory, 'right')]
  await writeFile(left, Buffer.alloc(3 * blockBytes))
  await writeFile(right, Buffer.alloc(blockBytes))
  expect(await differingBlocks(left, right)).toEqual([1, 2])
})
