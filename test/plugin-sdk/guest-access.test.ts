import { expect, test } from 'vitest'
import { accessFor, guestAccessOptions } from '../../src/plugin-sdk/guest-access.ts'

const privateKey = '-----BEGIN OPENSSH PRIVATE KEY-----\n…'
const entry = (match: string, user: string) => ({ match, user, privateKey, hostKeys: ['ssh-ed25519 AAAA'] })
const vm = { uniqueId: '6f1c…-A', name: 'web' }

test('the unique id wins over the name, and the name over *', () => {
  const entries = guestAccessOptions.parse([entry('*', 'any'), entry('web', 'named'), entry('6f1c…-a', 'exact')])
  expect(accessFor(entries, vm).user).toBe('exact')
  expect(accessFor(entries, { ...vm, uniqueId: 'other' }).user).toBe('named')
  expect(accessFor(entries, { uniqueId: 'other', name: 'other' }).user).toBe('any')
})

test('a VM without an entry is a clear error that names what to add', () => {
  expect(() => accessFor([], vm)).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTIONS', remedy: expect.stringContaining(vm.uniqueId) }),
  )
})

test.each([
  ['no host key', { ...entry('*', 'root'), hostKeys: [] }],
  ['a login name that ssh would read as an option', entry('*', '-oProxyCommand=x')],
  ['something that is not a private key', { ...entry('*', 'root'), privateKey: 'ssh-ed25519 AAAA' }],
  ['an unknown member', { ...entry('*', 'root'), password: 'x' }],
])('%s is refused', (_, bad) => {
  expect(guestAccessOptions.safeParse([bad]).success).toBe(false)
})
