/** Where the parts of a machine go: networks, storages and addresses, as the operator's maps say. Pure. */
import type { Finding, FindingSeverity } from './finding.ts'
import type { InterfaceAddressing, UnmappedNetworkPolicy } from './migration-request.ts'

/** By their providers' ids. */
export interface PlacementPlan {
  networkMap: readonly { sourceNetworkId: string; destinationNetworkId: string }[]
  unmappedNetworkPolicy: UnmappedNetworkPolicy
  storageMap: readonly { sourceStorageId: string | null; destinationStorageId: string }[]
  addressing: readonly InterfaceAddressing[]
}

interface Disk {
  index: number
  sizeBytes: number
  storageId?: string
}

/** `freeBytes` is absent where its provider doesn't tell. */
interface Storage {
  id: string
  name: string
  freeBytes?: number
}

/** The destination's storage for a disk; null: where its provider puts new disks. */
export function storageFor(disk: { storageId?: string }, storageMap: PlacementPlan['storageMap']): string | null {
  const own = storageMap.find(({ sourceStorageId }) => sourceStorageId !== null && sourceStorageId === disk.storageId)
  return (own ?? storageMap.find(({ sourceStorageId }) => sourceStorageId === null))?.destinationStorageId ?? null
}

/** What is wrong, or worth knowing, with the maps. */
export function placementFindings(
  source: { disks: readonly Disk[]; nics: readonly { mac: string; networkId: string }[] },
  storages: readonly Storage[],
  plan: PlacementPlan,
): Finding[] {
  return [
    ...networkPolicyFindings(source.nics, plan),
    ...storageFindings(source.disks, storages, plan),
    ...addressFindings(source.nics, plan),
  ]
}

function networkPolicyFindings(nics: readonly { mac: string; networkId: string }[], plan: PlacementPlan): Finding[] {
  if (plan.unmappedNetworkPolicy === 'FIRST') return []
  return nics
    .filter((nic) => !plan.networkMap.some(({ sourceNetworkId }) => sourceNetworkId === nic.networkId))
    .map(({ mac, networkId }) =>
      finding(
        'BLOCKER',
        'NETWORK_MAP_INCOMPLETE',
        `The interface ${mac} is on the network ${networkId}, which the network map doesn't name.`,
        'Add it to the map, or allow interfaces on networks that are not named.',
      ),
    )
}

function storageFindings(disks: readonly Disk[], storages: readonly Storage[], { storageMap }: PlacementPlan): Finding[] {
  const found: Finding[] = []
  const needed = new Map<string, number>()
  for (const disk of disks) {
    const id = storageFor(disk, storageMap)
    if (id !== null) needed.set(id, (needed.get(id) ?? 0) + disk.sizeBytes)
  }
  for (const id of new Set(storageMap.map(({ destinationStorageId }) => destinationStorageId))) {
    const storage = storages.find((candidate) => candidate.id === id)
    const neededBytes = needed.get(id) ?? 0
    if (!storage) {
      const known = storages.map((candidate) => candidate.id).join(', ') || 'none that can be chosen'
      found.push(
        finding(
          'BLOCKER',
          'STORAGE_UNKNOWN',
          `The destination has no storage ${JSON.stringify(id)}; it has ${known}.`,
          'Correct the storage map.',
        ),
      )
    } else if (storage.freeBytes !== undefined && storage.freeBytes < neededBytes)
      found.push(
        finding(
          'BLOCKER',
          'STORAGE_TOO_SMALL',
          `The storage ${storage.name} has ${storage.freeBytes} bytes free, and the disks that go there need ${neededBytes}.`,
          'Free space there, or map them to another storage.',
        ),
      )
  }
  const unused = storageMap.filter(
    ({ sourceStorageId }) => sourceStorageId !== null && !disks.some(({ storageId }) => storageId === sourceStorageId),
  )
  for (const { sourceStorageId } of unused)
    found.push(
      finding(
        'WARNING',
        'STORAGE_MAPPED_WITHOUT_DISK',
        `No disk is on the storage ${JSON.stringify(sourceStorageId)} that the storage map names.`,
        'Correct the map if one was meant to be.',
      ),
    )
  return found
}

function addressFindings(nics: readonly { mac: string }[], { addressing }: PlacementPlan): Finding[] {
  return addressing
    .filter(({ mac }) => !nics.some((nic) => nic.mac === mac))
    .map(({ mac }) =>
      finding(
        'BLOCKER',
        'ADDRESSING_WITHOUT_INTERFACE',
        `The virtual machine has no interface ${mac}, which was to get other addresses.`,
        `Its interfaces are ${nics.map((nic) => nic.mac).join(', ') || 'none'}: correct the addressing.`,
      ),
    )
}

function finding(severity: FindingSeverity, code: string, message: string, remedy: string): Finding {
  return { code, severity, message, remedy }
}
