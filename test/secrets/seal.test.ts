import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openSealKey, sealKeyOf } from '../../src/secrets/seal.ts'

let dataDirectory: string
beforeEach(async () => {
  dataDirectory = await mkdtemp(join(tmpdir(), 'portolan-seal-'))
})
afterEach(async () => {
  await rm(dataDirectory, { recursive: true, force: true })
})

const plain = JSON.stringify({ password: 'ünïcode & secret' })

describe('a seal key', () => {
  test('unseals what it sealed, never the same ciphertext twice', async () => {
    const key = await openSealKey({ dataDirectory, env: {} })
    const sealed = key.seal(plain, 'cloud/east')
    expect(key.unseal(sealed, 'cloud/east')).toBe(plain)
    expect(sealed).not.toContain('secret')
    expect(key.seal(plain, 'cloud/east')).not.toBe(sealed)
  })

  test('is made at first start as a 0600 file, and found again', async () => {
    const sealed = (await openSealKey({ dataDirectory, env: {} })).seal(plain, 'c')
    expect((await stat(join(dataDirectory, 'seal.key'))).mode & 0o777).toBe(0o600)
    expect((await openSealKey({ dataDirectory, env: {} })).unseal(sealed, 'c')).toBe(plain)
  })

  test('is one key when two processes start at once', async () => {
    const keys = await Promise.all(Array.from({ length: 8 }, () => openSealKey({ dataDirectory, env: {} })))
    const sealed = keys[0]!.seal(plain, 'c')
    for (const key of keys) expect(key.unseal(sealed, 'c')).toBe(plain)
  })

  test('comes from the environment, in hex or base64, without touching the file', async () => {
    const bytes = Buffer.alloc(32, 7)
    const byHex = await openSealKey({ dataDirectory, env: { PORTOLAN_SEAL_KEY: bytes.toString('hex') } })
    const byBase64 = await openSealKey({ dataDirectory, env: { PORTOLAN_SEAL_KEY: bytes.toString('base64') } })
    expect(byBase64.unseal(byHex.seal(plain, 'c'), 'c')).toBe(plain)
    await expect(readFile(join(dataDirectory, 'seal.key'))).rejects.toThrow('ENOENT')
  })

  test('says which key is missing when the value was sealed with another', () => {
    const sealed = sealKeyOf(Buffer.alloc(32, 1)).seal(plain, 'cloud/east')
    expect(() => sealKeyOf(Buffer.alloc(32, 2)).unseal(sealed, 'cloud/east')).toThrow(
      /cloud\/east was sealed with key [0-9a-f]{16}, and the present key is [0-9a-f]{16}/,
    )
  })

  test('refuses a value moved to another context, changed in any bit, cut short, or never sealed', () => {
    const key = sealKeyOf(Buffer.alloc(32, 3))
    const sealed = key.seal(plain, 'cloud/east')
    expect(() => key.unseal(sealed, 'cloud/west')).toThrow(expect.objectContaining({ code: 'TAMPERED' }))
    const head = sealed.lastIndexOf(':') + 1
    const body = Buffer.from(sealed.slice(head), 'base64url')
    for (let bit = 0; bit < body.length * 8; bit += 13) {
      const changed = Buffer.from(body)
      changed[bit >> 3]! ^= 1 << (bit & 7)
      expect(() => key.unseal(sealed.slice(0, head) + changed.toString('base64url'), 'cloud/east')).toThrow('changed')
    }
    expect(() => key.unseal(sealed.slice(0, head + 20), 'cloud/east')).toThrow('changed')
    expect(() => key.unseal(plain, 'cloud/east')).toThrow(expect.objectContaining({ code: 'NOT_SEALED' }))
  })

  test('is refused when malformed, or readable by others', async () => {
    await expect(openSealKey({ dataDirectory, env: { PORTOLAN_SEAL_KEY: 'hunter2' } })).rejects.toThrow('openssl rand -hex 32')
    const path = join(dataDirectory, 'seal.key')
    await writeFile(path, 'ab'.repeat(32))
    await chmod(path, 0o644)
    await expect(openSealKey({ dataDirectory, env: {} })).rejects.toThrow('chmod 600')
  })
})
