import { expect, test } from 'vitest'
import { apiTokenMatches, hashApiToken, newApiToken } from '../../src/secrets/api-token.ts'

test('a new token matches its own hash and no other', () => {
  const first = newApiToken()
  const second = newApiToken()
  expect(first.hash).toBe(hashApiToken(first.token))
  expect(apiTokenMatches(first.token, first.hash)).toBe(true)
  expect(apiTokenMatches(first.token, second.hash)).toBe(false)
  expect(Buffer.from(first.token.replace('portolan_', ''), 'base64url')).toHaveLength(32)
})

test('a hash of another length or form matches nothing', () => {
  const { token, hash } = newApiToken()
  for (const stored of ['', 'zz', hash.slice(2), `${hash}00`]) expect(apiTokenMatches(token, stored)).toBe(false)
})
