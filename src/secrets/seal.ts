/**
 * Secrets at rest: AES-256-GCM, a fresh 96-bit nonce for each, the context bound as additional data, so that a sealed value
 * copied to another row can't be unsealed there.
 *
 *   sealed:1:<key id, 16 hex digits>:<base64url of nonce (12) + ciphertext + tag (16)>
 *
 * The key id only names the key, for a clear sentence when it is the wrong one; the tag is what protects.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import { SealError } from './seal-error.ts'
import { readSealKey } from './seal-key-file.ts'

export interface SealKey {
  /** `context` says what and whose it is, such as `cloud-options/<cloud id>`. */
  seal(plain: string, context: string): string
  /** Throws SealError: WRONG_KEY, NOT_SEALED (not of this format), TAMPERED (changed, or sealed for another context). */
  unseal(sealed: string, context: string): string
  /** HMAC-SHA256 in lower-case hex, with a key of its own derived from this one: only who holds the seal key can make it. */
  sign(text: string, context: string): string
}

const nonceBytes = 12
const tagBytes = 16

/** Key from `PORTOLAN_SEAL_KEY` or `<dataDirectory>/seal.key`. Throws SealError: KEY_MALFORMED, KEY_EXPOSED, KEY_LOST. */
export async function openSealKey(from: { dataDirectory: string; env: NodeJS.ProcessEnv }): Promise<SealKey> {
  return sealKeyOf(await readSealKey(from))
}

/** The same from 32 bytes in hand. */
export function sealKeyOf(key: Buffer): SealKey {
  const signingKey = Buffer.from(hkdfSync('sha256', key, '', 'portolan signing key', 32))
  const keyId = createHash('sha256').update('portolan seal key id').update(key).digest('hex').slice(0, 16)
  return {
    seal(plain, context) {
      const nonce = randomBytes(nonceBytes)
      const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes }).setAAD(additionalData(context))
      const body = Buffer.concat([nonce, cipher.update(plain, 'utf8'), cipher.final(), cipher.getAuthTag()])
      return `sealed:1:${keyId}:${body.toString('base64url')}`
    },
    unseal(sealed, context) {
      const parts = /^sealed:1:([0-9a-f]{16}):([A-Za-z0-9_-]+)$/.exec(sealed)
      if (!parts) throw new SealError('NOT_SEALED', `The value for ${context} is not in the sealed format, so it was not used.`)
      if (parts[1] !== keyId) {
        throw new SealError(
          'WRONG_KEY',
          `The value for ${context} was sealed with key ${parts[1]}, and the present key is ${keyId}: start again with the key that sealed it (PORTOLAN_SEAL_KEY or seal.key).`,
        )
      }
      return open(Buffer.from(parts[2]!, 'base64url'), key, context)
    },
    sign: (text, context) =>
      createHmac('sha256', signingKey)
        .update(JSON.stringify([context, text]))
        .digest('hex'),
  }
}

function open(body: Buffer, key: Buffer, context: string): string {
  const tampered = new SealError(
    'TAMPERED',
    `The sealed value for ${context} was changed or belongs to something else, so it was not used.`,
  )
  if (body.length < nonceBytes + tagBytes) throw tampered
  const decipher = createDecipheriv('aes-256-gcm', key, body.subarray(0, nonceBytes), { authTagLength: tagBytes })
    .setAAD(additionalData(context))
    .setAuthTag(body.subarray(-tagBytes))
  try {
    return Buffer.concat([decipher.update(body.subarray(nonceBytes, -tagBytes)), decipher.final()]).toString('utf8')
  } catch {
    throw tampered
  }
}

function additionalData(context: string): Buffer {
  return Buffer.from(`portolan sealed 1 ${context}`, 'utf8')
}
