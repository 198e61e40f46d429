import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { checkPackageNames } from '../../src/workflows/debian-packages.ts'
import { parentImage, recipeDigest } from '../../src/workflows/parent-image.ts'

let cacheDirectory: string
beforeEach(() => void (cacheDirectory = mkdtempSync(join(tmpdir(), 'portolan-parent-image-'))))
afterEach(() => rmSync(cacheDirectory, { recursive: true, force: true }))

const base = { kernelPath: '/kernel', initrdPath: '/initrd' }

describe('names of packages', () => {
  test('as Debian has them pass', () => {
    expect(() => checkPackageNames(['g++', 'python3-numpy', 'libstdc++6', 'node-lodash', 'perl5.36'])).not.toThrow()
  })
  test.for(['', 'a', '-o', '--yes', 'a b', 'A', 'a;b', 'a/stable', 'a=1', 'a\n', '../a', 'a$(id)', "a'", 'a'.repeat(101), '+a', 'é-a'])(
    '%j is refused before anything is done',
    async (name) => {
      const refusal = { code: 'INVALID_INPUT', retryable: false, path: ['input', 'packages'] }
      await expect(parentImage({ runtime: 'NODE', packages: ['nodejs', name], base, cacheDirectory })).rejects.toMatchObject(refusal)
      expect(readdirSync(cacheDirectory)).toEqual([])
    },
  )
  test('more than there could be sense in are refused', () => {
    const names = Array.from({ length: 201 }, (_, index) => `package-${index}`)
    expect(() => checkPackageNames(names)).toThrow(/at most 200 packages/)
  })
})

describe("a recipe's digest", () => {
  test('is the same whatever the order, and however often a package is named', () => {
    const digest = recipeDigest({ runtime: 'NODE', packages: ['node-lodash', 'node-acorn'] })
    expect(recipeDigest({ runtime: 'NODE', packages: ['node-acorn', 'node-lodash', 'node-acorn'] })).toBe(digest)
  })
  test('is another with another runtime or package', () => {
    const recipes = [
      recipeDigest({ runtime: 'NODE', packages: [] }),
      recipeDigest({ runtime: 'PYTHON', packages: [] }),
      recipeDigest({ runtime: 'PYTHON', packages: ['python3-numpy'] }),
    ]
    expect(new Set(recipes).size).toBe(3)
  })
})

test('what was cancelled beforehand makes nothing', async () => {
  const signal = AbortSignal.abort(new Error('cancelled by its user'))
  await expect(parentImage({ runtime: 'NODE', packages: [], base, cacheDirectory, signal })).rejects.toThrow('cancelled by its user')
  const images = join(cacheDirectory, 'parent-images')
  expect(existsSync(images) ? readdirSync(images) : []).toEqual([])
})
