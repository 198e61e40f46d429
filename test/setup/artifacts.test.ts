import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { artifacts, cacheDirectory, guestMemoryBytes, readGuestAccess } from '../../setup/artifacts.ts'

const made: string[] = []
afterEach(() => made.splice(0).forEach((directory) => rmSync(directory, { recursive: true })))

describe('the cache', () => {
  test("is PORTOLAN_CACHE, else below XDG_CACHE_HOME, else below the user's home", () => {
    expect(cacheDirectory({ PORTOLAN_CACHE: '/a', XDG_CACHE_HOME: '/b' })).toBe('/a')
    expect(cacheDirectory({ XDG_CACHE_HOME: '/b' })).toBe('/b/portolan')
    expect(cacheDirectory({ PORTOLAN_CACHE: '', XDG_CACHE_HOME: '' })).toBe(join(homedir(), '.cache/portolan'))
  })

  test('is an absolute path even where the variable is not', () => {
    expect(cacheDirectory({ PORTOLAN_CACHE: 'here' })).toBe(join(process.cwd(), 'here'))
  })
})

test('guests have memory off the 256 KiB grid on which pages can be lost', () => {
  expect(guestMemoryBytes % (256 * 1024)).not.toBe(0)
  expect(guestMemoryBytes % 4096).toBe(0)
})

test("the guests' login is read with one host key a line", () => {
  const cache = mkdtempSync(join(tmpdir(), 'portolan-artifacts-'))
  made.push(cache)
  const from = artifacts(cache)
  mkdirSync(join(cache, 'keys'))
  writeFileSync(from.guestAccess.privateKeyPath, 'the key')
  writeFileSync(from.guestAccess.hostKeysPath, 'ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\n')
  expect(readGuestAccess(from)).toEqual({
    user: 'root',
    privateKey: 'the key',
    hostKeys: ['ssh-ed25519 AAAA one', 'ssh-ed25519 BBBB two'],
  })
})
