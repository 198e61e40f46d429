import { describe, expect, test } from 'vitest'
import { agentFindings } from '../../src/domain/agent-findings.ts'
import { preFlightFindings, type DestinationSite, type PreFlightPlan, type SourceMachine } from '../../src/domain/pre-flight.ts'

const gibibyte = 1024 ** 3
const source: SourceMachine = {
  name: 'victim',
  uniqueId: 'uuid-1',
  power: 'RUNNING',
  architecture: 'x86_64',
  firmware: 'BIOS',
  memoryBytes: gibibyte,
  disks: [{ sizeBytes: 2 * gibibyte }],
  nics: [{ mac: '52:54:00:00:00:01', networkId: 'lan' }],
}
const site: DestinationSite = {
  name: 'west',
  hosts: [{ name: 'host', architecture: 'x86_64', freeMemoryBytes: 8 * gibibyte, freeDiskBytes: 100 * gibibyte }],
  networkIds: ['net'],
  virtualMachines: [],
}
const plan: PreFlightPlan = {
  networkMap: [{ sourceNetworkId: 'lan', destinationNetworkId: 'net' }],
  landingMemoryBytes: gibibyte / 2,
  permittedDowntimeMs: 60_000,
  fixedDowntimeMs: 20_000,
}
const host = site.hosts[0]!

test('a machine that can be moved has no finding', () => {
  expect(preFlightFindings(source, site, plan)).toEqual([])
})

describe('a blocker', () => {
  test.each([
    ['SOURCE_NOT_RUNNING', { power: 'STOPPED' }, {}, {}],
    ['FENCE_OF_ANOTHER_MIGRATION', { foreignFenceId: 'other.1.1' }, {}, {}],
    ['FIRMWARE_UNSUPPORTED', { firmware: 'UEFI' }, {}, {}],
    ['DISK_COUNT_UNSUPPORTED', { disks: [{ sizeBytes: 1 }, { sizeBytes: 1 }] }, {}, {}],
    ['DISK_COUNT_UNSUPPORTED', { disks: [] }, {}, {}],
    ['MEMORY_TOO_SMALL', { memoryBytes: gibibyte / 4 }, {}, {}],
    ['ALREADY_AT_DESTINATION', {}, { virtualMachines: [{ uniqueId: 'uuid-1', name: 'old' }] }, {}],
    ['NAME_NOT_TAKEN', {}, { nameFault: 'has no slash' }, {}],
    ['DESTINATION_NOT_CHECKABLE', {}, { isolationFault: 'is nowhere' }, {}],
    ['NAME_IN_USE', {}, { namesAreUnique: true, virtualMachines: [{ uniqueId: 'uuid-2', name: 'victim' }] }, {}],
    ['ARCHITECTURE_DIFFERS', { architecture: 'aarch64' }, {}, {}],
    ['DESTINATION_DISK_TOO_SMALL', {}, { hosts: [{ ...host, freeDiskBytes: gibibyte }] }, {}],
    ['DESTINATION_MEMORY_TOO_SMALL', {}, { hosts: [{ ...host, freeMemoryBytes: 1 }] }, {}],
    ['NO_DESTINATION_NETWORK', {}, { networkIds: [] }, {}],
    ['DESTINATION_NETWORK_UNKNOWN', {}, {}, { networkMap: [{ sourceNetworkId: 'lan', destinationNetworkId: 'gone' }] }],
  ] as [string, Partial<SourceMachine>, Partial<DestinationSite>, Partial<PreFlightPlan>][])(
    '%s',
    (code, changedSource, changedSite, changedPlan) => {
      const found = preFlightFindings({ ...source, ...changedSource }, { ...site, ...changedSite }, { ...plan, ...changedPlan })
      expect(found).toContainEqual(expect.objectContaining({ code, severity: 'BLOCKER' }))
      for (const { message, remedy } of found) expect([message, remedy].every((text) => text.endsWith('.'))).toBe(true)
    },
  )
})

test('room that a provider does not tell about is not taken for none', () => {
  expect(preFlightFindings(source, { ...site, hosts: [{ name: 'host', architecture: 'x86_64' }] }, plan)).toEqual([])
})

test('an interface on a network that is not mapped is told where it goes', () => {
  expect(preFlightFindings(source, site, { ...plan, networkMap: [] })).toMatchObject([
    { code: 'NETWORK_NOT_MAPPED', severity: 'INFORMATION' },
  ])
})

test('a downtime shorter than a boot is warned of', () => {
  expect(preFlightFindings(source, site, { ...plan, permittedDowntimeMs: 20_000 })).toMatchObject([
    { code: 'DOWNTIME_TOO_SHORT', severity: 'WARNING' },
  ])
})

const rootOn = (mount: { device: string; fsType: string }) => ({
  sizeBytes: 1,
  root: true,
  swap: false,
  mounts: [{ path: '/', readOnly: false, ...mount }],
})

describe('what the agents found', () => {
  const guest = { architecture: 'x86_64', memoryAvailableBytes: gibibyte, disks: [{ sizeBytes: 1, root: true, swap: false, mounts: [] }] }

  test('is nothing for guests that are alike and have room', () => {
    expect(agentFindings(guest, { ...guest, disks: [] })).toEqual([])
    expect(agentFindings({ ...guest, disks: [rootOn({ device: '/dev/sda1', fsType: 'xfs' })] }, guest)).toEqual([])
  })

  test.each([
    ['AGENT_ARCHITECTURE_DIFFERS', { architecture: 'aarch64' }],
    ['NO_ROOT_DISK', { disks: [] }],
    ['SWAP_ON_DISK', { disks: [{ sizeBytes: 1, root: true, swap: true, mounts: [] }] }],
    ['GUEST_MEMORY_LOW', { memoryAvailableBytes: 1 }],
    ['GUEST_NOT_FITTED', { disks: [rootOn({ device: '/dev/mapper/vg-root', fsType: 'ext4' })] }],
    ['GUEST_NOT_FITTED', { disks: [rootOn({ device: '/dev/vda1', fsType: 'btrfs' })] }],
  ])('names %s', (code, change) => {
    expect(agentFindings({ ...guest, ...change }, guest)).toContainEqual(expect.objectContaining({ code }))
  })

  test('refuses a source with a file system that can not be frozen, where it is written to', () => {
    const root = rootOn({ device: '/dev/vda1', fsType: 'ext4' })
    const withEfi = (readOnly: boolean) => {
      const efi = { path: '/boot/efi', device: '/dev/vda15', fsType: 'vfat', readOnly }
      return agentFindings({ ...guest, disks: [{ ...root, mounts: [...root.mounts, efi] }] }, guest)
    }
    expect(withEfi(false)).toMatchObject([
      { code: 'FILE_SYSTEM_NOT_FREEZABLE', severity: 'BLOCKER', message: expect.stringContaining('/boot/efi (vfat)') },
    ])
    expect(withEfi(true)).toEqual([])
  })

  test('refuses other addresses for a root that can not be opened', () => {
    const onLvm = { ...guest, disks: [rootOn({ device: '/dev/mapper/vg-root', fsType: 'xfs' })] }
    expect(agentFindings(onLvm, guest)).toMatchObject([{ severity: 'WARNING' }])
    expect(agentFindings(onLvm, guest, { otherAddresses: true })).toMatchObject([{ severity: 'BLOCKER' }])
  })
})
