import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'

/**
 * A token of 256 random bits. Only its hash is stored; one SHA-256 is enough, since nobody can try 2^256 values (a slow hash is for
 * passwords, which people choose).
 */
export function newApiToken(): { token: string; hash: string } {
  const token = `portolan_${randomBytes(32).toString('base64url')}`
  return { token, hash: hashApiToken(token) }
}

/** Lower-case hex, 64 digits; what a look-up by equality in the database uses. */
export function hashApiToken(token: string): string {
  return createHash('sha256').update(token, 'utf8').digest('hex')
}

/** Constant time for any pair of strings. */
export function apiTokenMatches(token: string, storedHash: string): boolean {
  const actual = createHash('sha256').update(token, 'utf8').digest()
  const expected = Buffer.from(storedHash, 'hex')
  return expected.length === actual.length && timingSafeEqual(actual, expected)
}
