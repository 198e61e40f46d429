/** The copied guest may be hostile: no path of it leads out of it. */
import { execFileSync } from 'node:child_process'
import { existsSync, lstatSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { guestFiles } from '../../src/agents/migration/fix-up/guest-files.ts'
import { plantTree, type GuestTree } from './fix-up-tree.ts'

let tree: GuestTree
let outside: GuestTree
beforeEach(() => {
  tree = plantTree({ 'etc/fstab': 'inside\n' })
  outside = plantTree({ secret: 'outside\n' })
})
afterEach(() => {
  tree.remove()
  outside.remove()
})

describe("a guest's paths", () => {
  test('absolute links, parents and links upwards stay inside', async () => {
    const { files } = tree.guest
    symlinkSync(join(outside.directory, 'secret'), join(tree.directory, 'etc/hosts'))
    symlinkSync('../../../../../../..', join(tree.directory, 'etc/up'))
    symlinkSync('/etc/fstab', join(tree.directory, 'etc/absolute'))
    expect(await files.read('/etc/hosts')).toBeNull()
    expect(await files.read(`/../../..${outside.directory}/secret`)).toBeNull()
    expect(await files.read(`/etc/up${outside.directory}/secret`)).toBeNull()
    expect(await files.read('/etc/absolute')).toBe('inside\n')
    await files.write('/etc/hosts', 'written\n')
    expect(outside.read('secret')).toBe('outside\n')
    expect(tree.read(join(outside.directory, 'secret'))).toBe('written\n')
  })

  test('links in a circle end with a sentence', async () => {
    symlinkSync('/etc/b', join(tree.directory, 'etc/a'))
    symlinkSync('/etc/a', join(tree.directory, 'etc/b'))
    await expect(tree.guest.files.write('/etc/a', 'x')).rejects.toThrow('round in circles')
  })

  test('a pipe, a directory and a huge file are no configuration', async () => {
    execFileSync('mkfifo', [join(tree.directory, 'etc/pipe')])
    mkdirSync(join(tree.directory, 'etc/directory'))
    writeFileSync(join(tree.directory, 'etc/huge'), Buffer.alloc(1024 * 1024 + 1))
    for (const name of ['pipe', 'directory', 'huge']) expect(await tree.guest.files.read(`/etc/${name}`), name).toBeNull()
    await expect(tree.guest.files.write('/etc/pipe', 'x')).rejects.toThrow('not a regular file')
  })
})

describe('writing', () => {
  test('keeps mode and owner, and says whether anything changed', async () => {
    execFileSync('chmod', ['640', join(tree.directory, 'etc/fstab')])
    expect(await tree.guest.files.write('/etc/fstab', 'inside\n')).toBe(false)
    expect(await tree.guest.files.write('/etc/fstab', 'new\n')).toBe(true)
    expect(statSync(join(tree.directory, 'etc/fstab')).mode & 0o777).toBe(0o640)
    expect(tree.guest.files.created).toEqual([])
    await tree.guest.files.write('/etc/deep/new', 'x\n')
    expect(tree.guest.files.created).toEqual(['/etc/deep/new'])
  })

  test('in place keeps the inode, and with it a label; a shorter content leaves nothing behind', async () => {
    const files = guestFiles(tree.directory, { inPlace: true })
    const before = lstatSync(join(tree.directory, 'etc/fstab')).ino
    await files.write('/etc/fstab', 'x\n')
    expect(lstatSync(join(tree.directory, 'etc/fstab')).ino).toBe(before)
    expect(readFileSync(join(tree.directory, 'etc/fstab'), 'utf8')).toBe('x\n')
    expect(existsSync(join(tree.directory, `etc/.portolan-${process.pid}`))).toBe(false)
  })
})
