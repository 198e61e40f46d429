import type { CutoverPolicy, NonConvergencePolicy } from './migration.ts'

export interface MigrationRequest {
  /** Row id of the virtual machine to move (virtual_machines.id). */
  sourceVirtualMachineId: string
  destinationCloudId: string
  /** Source network row id -> destination network row id; NICs on networks that are not named go to the destination's first network. */
  networkMap: { sourceNetworkId: string; destinationNetworkId: string }[]
  permittedDowntimeMs: number
  cutoverPolicy: CutoverPolicy
  /** KEEP_SYNCING when absent. */
  nonConvergencePolicy?: NonConvergencePolicy
  /** How the destination proves that it works, while isolated. */
  healthCheck: { kind: 'HTTP'; port: number; path: string; timeoutMs: number } | { kind: 'TCP'; port: number; timeoutMs: number }
}
