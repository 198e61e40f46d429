import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'

interface LockedPackage {
  os?: string[]
  optional?: boolean
  extraneous?: boolean
}

/** npm 9, which Debian 12 has, refuses to install a package for another system unless it is optional; a newer npm skips it without a word. */
test('npm ci of Debian 12 can install what is locked', async () => {
  const lock = JSON.parse(await readFile(resolve(import.meta.dirname, '../../package-lock.json'), 'utf8')) as {
    packages: Record<string, LockedPackage>
  }
  const packages = Object.entries(lock.packages)
  expect(packages.filter(([, { extraneous }]) => extraneous).map(([path]) => path)).toEqual([])
  const foreign = packages.filter(([, { os, optional }]) => os && !os.includes('linux') && !optional)
  expect(foreign.map(([path]) => path)).toEqual([])
})
