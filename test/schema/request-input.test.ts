/** What startMigration refuses before anything was changed: hostile values in hooks, addresses and maps. */
import { describe, expect, test } from 'vitest'
import { toHooks } from '../../schema/hook-input.ts'
import { toInterfaceAddressing } from '../../schema/interface-addressing-input.ts'
import { toStorageMap } from '../../schema/storage-map-input.ts'
import { subnetOf } from '../../src/domain/subnet-of.ts'

const mac = '52:54:00:12:34:56'
const fixed = (address: string, gateway?: string, dnsServers: string[] = []) =>
  toInterfaceAddressing([{ mac, dhcp: false, static: { address, gateway, dnsServers } }])

describe('addresses', () => {
  test('of both families pass, and come out plain', () => {
    expect(fixed('192.0.2.7/24', '192.0.2.1', ['2001:db8::53'])).toEqual([
      { mac, mode: 'STATIC', address: '192.0.2.7/24', gateway: '192.0.2.1', dnsServers: ['2001:db8::53'] },
    ])
    expect(fixed('2001:db8::7/64', '2001:db8::1')).toMatchObject([{ address: '2001:db8::7/64', gateway: '2001:db8::1' }])
    expect(toInterfaceAddressing([{ mac: mac.toUpperCase(), dhcp: true }])).toEqual([{ mac, mode: 'DHCP' }])
  })

  test.each([
    '192.0.2.7',
    '192.0.2.7/33',
    '192.0.2.7/0',
    '192.0.2.7/24\niface evil inet dhcp',
    '192.0.2.7/24/24',
    '127.0.0.1/8',
    '224.0.0.5/24',
    'fe80::1%eth0/64',
    '::1/128',
    '',
  ])('%j is refused', (address) => {
    expect(subnetOf(address)).toBeNull()
    expect(() => fixed(address)).toThrow('input.addressing.0.static.address must be')
  })

  test('a gateway outside the subnet, of the other family or the own address is refused', () => {
    for (const gateway of ['192.0.3.1', '2001:db8::1', '192.0.2.7', '192.0.2.1%\nx'])
      expect(() => fixed('192.0.2.7/24', gateway), gateway).toThrow('input.addressing.0.static.gateway')
  })

  test('a MAC that comes twice, or is none, is refused', () => {
    expect(() =>
      toInterfaceAddressing([
        { mac, dhcp: true },
        { mac: mac.toUpperCase(), dhcp: true },
      ]),
    ).toThrow('a second time')
    expect(() => toInterfaceAddressing([{ mac: '../../etc/passwd', dhcp: true }])).toThrow('must be a MAC address')
  })

  test('neither and both are refused', () => {
    expect(() => toInterfaceAddressing([{ mac, dhcp: false }])).toThrow('exactly one')
    expect(() => toInterfaceAddressing([{ mac, dhcp: true, static: { address: '192.0.2.7/24', dnsServers: [] } }])).toThrow('exactly one')
  })
})

describe('hooks', () => {
  const hook = { name: 'x', phase: 'FREEZE', when: 'BEFORE', timeoutMs: 1_000, retries: 0, onFailure: 'FAIL' } as const
  const webhook = (url: string) => toHooks([{ ...hook, webhook: { url, secretName: 'team' } }])

  test('pass as they are', () => {
    expect(toHooks([{ ...hook, command: ['fsync', '--all', ''] }])[0]?.action).toEqual({ kind: 'COMMAND', command: ['fsync', '--all', ''] })
    expect(webhook('https://example.com/x?y=1')[0]?.action).toEqual({
      kind: 'WEBHOOK',
      url: 'https://example.com/x?y=1',
      secretName: 'team',
    })
  })

  test.each([
    'ftp://example.com/',
    'file:///etc/passwd',
    '/relative',
    'https://user:pass@example.com/',
    `https://example.com/${'x'.repeat(3_000)}`,
  ])('a webhook to %s is refused', (url) => expect(() => webhook(url)).toThrow('webhook.url must'))

  test.each([
    { command: [] },
    { command: [''] },
    { command: ['x\0y'] },
    { command: Array(65).fill('x') as string[] },
    { command: ['x'.repeat(20_000)] },
  ])('a command that is none is refused', ({ command }) => expect(() => toHooks([{ ...hook, command }])).toThrow('command must'))

  test('places, names and times that are not allowed are refused with their path', () => {
    expect(() => toHooks([{ ...hook, command: ['x'], when: 'AFTER' }])).toThrow('input.hooks.0 would run while the source is frozen')
    expect(() => toHooks([{ ...hook, command: ['x'], name: 'a\nb' }])).toThrow('input.hooks.0.name must')
    expect(() =>
      toHooks([
        { ...hook, command: ['x'] },
        { ...hook, command: ['x'] },
      ]),
    ).toThrow('input.hooks.1.name names x a second time')
    expect(() => toHooks([{ ...hook, command: ['x'], timeoutMs: 600_001 }])).toThrow('input.hooks.0.timeoutMs')
    expect(() => toHooks([hook])).toThrow('exactly one of')
  })
})

test('a storage is mapped once', () => {
  expect(toStorageMap([{ destinationStorageId: 'fast' }, { sourceStorageId: 'a', destinationStorageId: 'b' }])).toEqual([
    { sourceStorageId: null, destinationStorageId: 'fast' },
    { sourceStorageId: 'a', destinationStorageId: 'b' },
  ])
  expect(() => toStorageMap([{ destinationStorageId: 'a' }, { destinationStorageId: 'b' }])).toThrow('a second time')
  expect(() => toStorageMap([{ destinationStorageId: '' }])).toThrow('1 to 1,000')
})
