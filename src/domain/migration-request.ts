import type { Hook } from './hook.ts'
import type { BandwidthSchedule } from './bandwidth-schedule.ts'
import type { CutoverPolicy, NonConvergencePolicy } from './migration.ts'

export const unmappedNetworkPolicies = ['FIRST', 'REFUSE'] as const
/** Where interfaces go whose network the map doesn't name: to the destination's first network, or nowhere, and then pre-flight refuses. */
export type UnmappedNetworkPolicy = (typeof unmappedNetworkPolicies)[number]

/** What another attempt may do otherwise: nothing that decides what is copied, or the copy that the one before kept would be another's. */
export type MigrationChanges = Partial<
  Pick<MigrationRequest, 'permittedDowntimeMs' | 'nonConvergencePolicy' | 'healthCheck' | 'hooks' | 'addressing'>
>

/** `mac`: lower case, of the source's interface; the copy has the same. `address`: with a prefix length, such as `192.0.2.7/24`. */
export type InterfaceAddressing = { mac: string } & (
  | { mode: 'DHCP' }
  | { mode: 'STATIC'; address: string; gateway: string | null; dnsServers: string[] }
)

export interface MigrationRequest {
  /** Row id of the virtual machine to move (virtual_machines.id). */
  sourceVirtualMachineId: string
  destinationCloudId: string
  /** Source network row id -> destination network row id; others follow `unmappedNetworkPolicy`. */
  networkMap: { sourceNetworkId: string; destinationNetworkId: string }[]
  /** FIRST when absent. */
  unmappedNetworkPolicy?: UnmappedNetworkPolicy
  /** The source's storage (null: every disk whose storage isn't named otherwise) -> the destination's, both by their providers' ids. Absent: where the destination puts new disks. */
  storageMap?: { sourceStorageId: string | null; destinationStorageId: string }[]
  /** Interfaces that get other addresses in the new place; the others keep what the guest is configured with. */
  addressing?: InterfaceAddressing[]
  /** Run in this order where several are at one place. */
  hooks?: Hook[]
  permittedDowntimeMs: number
  cutoverPolicy: CutoverPolicy
  /** KEEP_SYNCING when absent. */
  nonConvergencePolicy?: NonConvergencePolicy
  /** Absolute paths in the guest; their files' data is not copied, and they are empty in the copy. */
  excludedDirectories?: string[]
  /** How fast it may copy; as fast as it can when absent. `setBandwidthLimit` changes it later. */
  bandwidth?: BandwidthSchedule
  /** How the destination proves that it works, while isolated. */
  healthCheck: { kind: 'HTTP'; port: number; path: string; timeoutMs: number } | { kind: 'TCP'; port: number; timeoutMs: number }
}
