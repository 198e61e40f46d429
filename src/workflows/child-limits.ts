/** What bounds a child, as the plugin takes it. */
import { privilegeDefaults } from '../domain/job-limits.ts'
import type { JobPrivileges } from '../domain/job.ts'
import type { ParentRecipe } from '../domain/parent-vm.ts'
import type { ChildLimits } from '../plugin-sdk/index.ts'

/** QEMU's own memory beside the guest's: translated code, and the device model. */
const processBytes = 192 * 1024 ** 2

export function childLimits(privileges: Omit<JobPrivileges, 'peers'>, parentBytes: number): ChildLimits {
  const { networkId, cpuShare, memoryBytes, diskBytes, maxLifetimeMs } = privileges
  return {
    memoryBytes: memoryBytes ?? parentBytes + processBytes,
    cpuShare,
    diskBytes,
    network: networkId === null ? 'NONE' : { networkId },
    maxLifetimeMs,
  }
}

/** Of a child whose job asks for nothing else. */
export function usualChildLimits({ memoryBytes }: Pick<ParentRecipe, 'memoryBytes'>): ChildLimits {
  return childLimits({ ...privilegeDefaults, networkId: null, memoryBytes: null }, memoryBytes)
}
