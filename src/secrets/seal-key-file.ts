import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { link, mkdir, open, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { SealError } from './seal-error.ts'

const keyBytes = 32

/**
 * The key's text from `PORTOLAN_SEAL_KEY`, else from `<dataDirectory>/seal.key` (0600, made at first start).
 * Throws SealError when the key is malformed, the file can be read by others, or it is gone while a database is there: a new key would open nothing in it.
 */
export async function readSealKey(from: { dataDirectory: string; env: NodeJS.ProcessEnv }): Promise<Buffer> {
  const given = from.env['PORTOLAN_SEAL_KEY']
  if (given !== undefined && given !== '') return parseKey(given, 'the environment variable PORTOLAN_SEAL_KEY')
  const path = join(from.dataDirectory, 'seal.key')
  await mkdir(from.dataDirectory, { recursive: true, mode: 0o700 })
  try {
    return await readKeyFile(path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
  const database = join(from.dataDirectory, 'portolan.db')
  if (existsSync(database))
    throw new SealError(
      'KEY_LOST',
      `The seal key ${path} is gone, and what ${database} holds of credentials was sealed with it: restore seal.key from a backup, or set PORTOLAN_SEAL_KEY if the key was given so; nothing was started and no new key was made.`,
    )
  await makeKeyFile(path)
  return readKeyFile(path)
}

async function readKeyFile(path: string): Promise<Buffer> {
  const { mode } = await stat(path)
  if ((mode & 0o077) !== 0) {
    throw new SealError(
      'KEY_EXPOSED',
      `The seal key file ${path} can be read by other users, so it was not used: run \`chmod 600 ${path}\`.`,
    )
  }
  return parseKey(await readFile(path, 'utf8'), `the seal key file ${path}`)
}

/** Written aside and linked into place: a crash leaves a whole key or none, and of two first starts one key wins. */
async function makeKeyFile(path: string): Promise<void> {
  const draft = `${path}.${randomBytes(6).toString('hex')}`
  try {
    const file = await open(draft, 'wx', 0o600)
    try {
      await file.writeFile(`${randomBytes(keyBytes).toString('hex')}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
    await link(draft, path)
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
  } finally {
    await rm(draft, { force: true })
  }
}

function parseKey(text: string, where: string): Buffer {
  const trimmed = text.trim()
  const key = /^[0-9a-f]{64}$/i.test(trimmed) ? Buffer.from(trimmed, 'hex') : Buffer.from(trimmed, 'base64')
  if (key.length !== keyBytes || !/^[A-Za-z0-9+/_=-]+$/.test(trimmed)) {
    throw new SealError(
      'KEY_MALFORMED',
      `The seal key in ${where} is not 32 bytes in hex or base64: set it to the output of \`openssl rand -hex 32\`.`,
    )
  }
  return key
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
