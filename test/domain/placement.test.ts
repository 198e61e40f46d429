import { describe, expect, test } from 'vitest'
import { placementFindings, storageFor, type PlacementPlan } from '../../src/domain/placement.ts'

const gibibyte = 2 ** 30
const machine = {
  disks: [
    { index: 0, sizeBytes: 2 * gibibyte, storageId: 'ssd' },
    { index: 1, sizeBytes: 8 * gibibyte },
  ],
  nics: [
    { mac: '52:54:00:00:00:01', networkId: 'lan' },
    { mac: '52:54:00:00:00:02', networkId: 'backup' },
  ],
}
const storages = [
  { id: 'fast', name: 'Fast', freeBytes: 4 * gibibyte },
  { id: 'big', name: 'Big' },
]
const plan = (change: Partial<PlacementPlan> = {}): PlacementPlan => ({
  networkMap: [],
  unmappedNetworkPolicy: 'FIRST',
  storageMap: [],
  addressing: [],
  ...change,
})
const found = (change: Partial<PlacementPlan>, given = storages) =>
  placementFindings(machine, given, plan(change)).map(({ severity, code }) => `${severity} ${code}`)

describe('the storage map', () => {
  test('sends a disk where its own storage is mapped to, then where all are, then where the destination puts new ones', () => {
    const map = [{ sourceStorageId: 'ssd', destinationStorageId: 'fast' }]
    expect(storageFor(machine.disks[0]!, map)).toBe('fast')
    expect(storageFor(machine.disks[1]!, map)).toBeNull()
    expect(storageFor(machine.disks[1]!, [...map, { sourceStorageId: null, destinationStorageId: 'big' }])).toBe('big')
  })
  test('that fits is not worth a word', () => {
    expect(
      found({
        storageMap: [
          { sourceStorageId: 'ssd', destinationStorageId: 'fast' },
          { sourceStorageId: null, destinationStorageId: 'big' },
        ],
      }),
    ).toEqual([])
  })
  test('is refused where the storage is unknown, or has no room for all that goes there', () => {
    expect(found({ storageMap: [{ sourceStorageId: null, destinationStorageId: '../fast' }] })).toEqual(['BLOCKER STORAGE_UNKNOWN'])
    expect(found({ storageMap: [{ sourceStorageId: null, destinationStorageId: 'big' }] }, [])).toEqual(['BLOCKER STORAGE_UNKNOWN'])
    expect(found({ storageMap: [{ sourceStorageId: null, destinationStorageId: 'fast' }] })).toEqual(['BLOCKER STORAGE_TOO_SMALL'])
  })
  test('that names a storage without disks is worth a warning', () => {
    expect(found({ storageMap: [{ sourceStorageId: 'gone', destinationStorageId: 'big' }] })).toEqual([
      'WARNING STORAGE_MAPPED_WITHOUT_DISK',
    ])
  })
})

test('interfaces on networks that are not named are refused where the operator wants it so', () => {
  const networkMap = [{ sourceNetworkId: 'lan', destinationNetworkId: 'net' }]
  expect(found({ networkMap })).toEqual([])
  expect(found({ networkMap, unmappedNetworkPolicy: 'REFUSE' })).toEqual(['BLOCKER NETWORK_MAP_INCOMPLETE'])
})

test('addresses for an interface that is not there are refused', () => {
  expect(found({ addressing: [{ mac: '52:54:00:00:00:02', mode: 'DHCP' }] })).toEqual([])
  expect(found({ addressing: [{ mac: '52:54:00:00:00:03', mode: 'DHCP' }] })).toEqual(['BLOCKER ADDRESSING_WITHOUT_INTERFACE'])
})
