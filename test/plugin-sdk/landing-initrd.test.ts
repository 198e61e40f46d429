import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { cpioArchive, writeLandingInitrd } from '../../src/plugin-sdk/landing-initrd.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-initrd-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const secret = { path: '/etc/portolan/bootstrap.json', content: '{"enrolmentToken":"ü"}', mode: 0o600 }

describe('a landing initrd', () => {
  test('is the base, zeros up to the next boundary, and an archive that cpio unpacks with its modes', async () => {
    const base = gzipSync('any base')
    await writeFile(join(directory, 'base'), base)
    await writeLandingInitrd(
      join(directory, 'base'),
      [secret, { ...secret, path: '/etc/portolan/run', content: '', mode: 0o755 }],
      join(directory, 'out'),
    )
    const written = await readFile(join(directory, 'out'))
    const start = Math.ceil(base.length / 512) * 512
    expect(written.subarray(0, base.length)).toEqual(base)
    expect(written.subarray(base.length, start).every((byte) => byte === 0)).toBe(true)

    const unpacked = join(directory, 'unpacked')
    execFileSync('mkdir', [unpacked])
    execFileSync('cpio', ['-id', '--quiet'], { cwd: unpacked, input: written.subarray(start), stdio: 'pipe' })
    expect(await readFile(join(unpacked, secret.path), 'utf8')).toBe(secret.content)
    expect((await stat(join(unpacked, secret.path))).mode & 0o7777).toBe(0o600)
    expect((await stat(join(unpacked, 'etc/portolan/run'))).mode & 0o7777).toBe(0o755)
  })

  test('is readable by its owner only, replaces an earlier one, and leaves nothing else beside it', async () => {
    await writeFile(join(directory, 'base'), 'base', { mode: 0o644 })
    await writeFile(join(directory, 'out'), 'earlier', { mode: 0o644 })
    await writeLandingInitrd(join(directory, 'base'), [secret], join(directory, 'out'))
    expect((await stat(join(directory, 'out'))).mode & 0o777).toBe(0o600)
    expect((await readdir(directory)).toSorted()).toEqual(['base', 'out'])
  })

  test('is not written where the base is missing', async () => {
    await expect(writeLandingInitrd(join(directory, 'none'), [secret], join(directory, 'out'))).rejects.toThrow('ENOENT')
    expect(await readdir(directory)).toEqual([])
  })
})

describe('an archive', () => {
  test.each(['relative', '/a/../b', '/a//b', '/', '/a\0b'])('refuses the path %j', (path) => {
    expect(() => cpioArchive([{ ...secret, path }])).toThrow("can't be injected")
  })

  test('refuses the same path twice', () => {
    expect(() => cpioArchive([secret, secret])).toThrow('twice')
  })

  test('names each directory once, before what is in it', () => {
    const text = cpioArchive([secret, { ...secret, path: '/etc/portolan/second' }]).toString('latin1')
    expect(text.split('etc\0').length).toBe(2)
    expect(text.indexOf('etc/portolan\0')).toBeLessThan(text.indexOf('etc/portolan/bootstrap.json'))
  })
})
