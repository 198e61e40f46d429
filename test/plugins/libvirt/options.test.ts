import { expect, test } from 'vitest'
import { isLocal, libvirtOptions } from '../../../plugins/libvirt/options.ts'

test('a URI is enough', () => {
  expect(libvirtOptions.parse({ uri: 'qemu:///system' })).toMatchObject({
    storagePool: 'default',
    acceleration: 'emulation',
    diskCache: 'none',
  })
})

test('an unknown option is refused', () => {
  expect(libvirtOptions.safeParse({ uri: 'qemu:///system', pool: 'x' }).success).toBe(false)
})

test.each(['test:///default', 'qemu+tcp://host/system', 'qemu+ssh://host/system?no_verify=1', 'qemu:///', 'xen:///system', '; rm -rf', ''])(
  'the URI %j is refused',
  (uri) => {
    expect(libvirtOptions.safeParse({ uri }).success).toBe(false)
  },
)

test.each([
  ['qemu:///system', true],
  ['qemu+unix:///system?socket=%2Ftmp%2Fsock', true],
  ['qemu+ssh://root@host/system', false],
  ['qemu://host/system', false],
])('%s is on this machine: %s', (uri, local) => {
  expect(libvirtOptions.safeParse({ uri }).success).toBe(true)
  expect(isLocal(uri)).toBe(local)
})

test.each(['10.0.0.0', '10.0.0.0/30', 'fd00::/64', '10.0.0.0/7'])('isolated networks from %s are refused', (isolatedNetworks) => {
  expect(libvirtOptions.safeParse({ uri: 'qemu:///system', isolatedNetworks }).success).toBe(false)
})
