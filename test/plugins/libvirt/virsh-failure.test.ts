import { expect, test } from 'vitest'
import { isNotFound, isPassing, virshFailure } from '../../../plugins/libvirt/virsh-failure.ts'

test.each([
  ["error: failed to get domain 'x'\nerror: Domain not found: no domain with matching uuid", 'NOT_FOUND', false],
  [
    "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/run/libvirt/libvirt-sock': No such file or directory",
    'UNREACHABLE',
    true,
  ],
  ['error: failed to connect to the hypervisor\nerror: authentication unavailable: no polkit agent', 'UNAUTHORIZED', false],
  [
    "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/run/libvirt/libvirt-sock': Permission denied",
    'UNAUTHORIZED',
    false,
  ],
  [
    'error: failed to connect to the hypervisor\nerror: Cannot recv data: Host key verification failed.: Connection reset by peer',
    'UNAUTHORIZED',
    false,
  ],
  [
    'error: Disconnected from qemu:///system due to end of file\nerror: End of file while reading data: Input/output error',
    'UNREACHABLE',
    true,
  ],
  ['error: no valid connection', 'UNREACHABLE', true],
  ['error: Failed to reconnect to the hypervisor', 'UNREACHABLE', true],
  ['error: Disconnected from qemu+ssh://a/system due to I/O error', 'UNREACHABLE', true],
  ["error: Failed to start domain 'x'\nerror: internal error: qemu: Could not open '/d': Permission denied", 'INTERNAL', false],
  ['error: Failed to create vol\nerror: cannot extend file: No space left on device', 'INSUFFICIENT_CAPACITY', true],
  ["error: operation failed: domain 'x' already exists with uuid 1", 'CONFLICT', false],
  ['error: this function is not supported by the connection driver: virNWFilterDefineXML', 'UNSUPPORTED', false],
])('%j becomes %s', (stderr, code, retryable) => {
  expect(virshFailure('try', stderr)).toMatchObject({ code, retryable })
})

test('a domain that virsh can not get, without a word from libvirtd, is not "not found"', () => {
  const failure = virshFailure('look', "error: failed to get domain 'x'")
  expect(failure.code).toBe('INTERNAL')
  expect(isNotFound(failure, 'domain')).toBe(false)
})

test.each(['Domain not found', "a' Domain not found 'b", 'No space left', 'already exists', 'Broken pipe', "it's not supported"])(
  'a virtual machine with the name %j does not decide what its failure means',
  (name) => {
    const stderr = `error: Failed to start domain '${name}'\nerror: internal error: process exited while connecting to monitor`
    expect(virshFailure('start it', stderr)).toMatchObject({ code: 'INTERNAL', path: [] })
  },
)

test('what stands between names still counts', () => {
  expect(virshFailure('try', "error: volume 'a' already exists in pool 'b'").code).toBe('CONFLICT')
  expect(virshFailure('try', "error: Requested operation is not valid: network 'a' is not active").code).toBe('CONFLICT')
  expect(virshFailure('try', "error: can't grow it: No space left: 'a'").code).toBe('INSUFFICIENT_CAPACITY')
})

test('a missing volume is not a missing domain', () => {
  const failure = virshFailure('look', 'error: Storage volume not found: no storage vol with matching path')
  expect(isNotFound(failure, 'volume')).toBe(true)
  expect(isNotFound(failure, 'domain')).toBe(false)
})

test('only what passes by itself is tried again', () => {
  expect(isPassing("error: internal error: pool 'default' has asynchronous jobs running.")).toBe(true)
  expect(isPassing("error: Requested operation is not valid: volume 'a' is still in use.")).toBe(true)
  expect(isPassing("error: Failed to start domain 'a is still in use'")).toBe(false)
  expect(isPassing('error: No space left on device')).toBe(false)
})
