/**
 * The engine signs each request to our service, and the service takes no other. The private key is made at first start and is the engine's alone to
 * use; the service needs the public half, in the engine's own notation.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'

/** Reads the key file, or makes it (0600). Returns the public key as the engine writes it: `publickeyv1_` and base58. */
export async function ensureRequestIdentity(keyPath: string): Promise<string> {
  return publicKeyNotation(createPublicKey(await readOrMake(keyPath)))
}

async function readOrMake(keyPath: string): Promise<KeyObject> {
  try {
    return createPrivateKey(await readFile(keyPath))
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
  }
  const { privateKey } = generateKeyPairSync('ed25519')
  await writeFile(keyPath, privateKey.export({ format: 'pem', type: 'pkcs8' }), { mode: 0o600, flag: 'wx' })
  return privateKey
}

function publicKeyNotation(key: KeyObject): string {
  const { x } = key.export({ format: 'jwk' })
  return `publickeyv1_${base58(Buffer.from(x!, 'base64url'))}`
}

const alphabet = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'

function base58(bytes: Buffer): string {
  let rest = BigInt(`0x${bytes.toString('hex')}`)
  let digits = ''
  for (; rest > 0n; rest /= 58n) digits = alphabet[Number(rest % 58n)] + digits
  const leadingZeros = bytes.findIndex((byte) => byte !== 0)
  return '1'.repeat(leadingZeros < 0 ? bytes.length : leadingZeros) + digits
}
