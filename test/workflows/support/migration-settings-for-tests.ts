import type { MigrationRequest } from '../../../src/domain/migration-request.ts'
import { defaultTimings, type MigrationTimings } from '../../../src/workflows/migration-settings.ts'
import { sourceMachineId } from './fake-clouds.ts'

export const quickTimings: MigrationTimings = {
  ...defaultTimings,
  leaseMs: 2_000,
  sliceMs: 500,
  pollMs: 5,
  firstRetryMs: 1,
  maxRetryMs: 5,
  roundGapMs: 1,
  holdMs: 20,
  agentMs: 200,
  powerLookMs: 20,
  lostMs: 1_000,
  requestMs: 500,
  stallMs: 2_000,
  standstillMs: 300,
  frozenStallMs: 500,
  healthPollMs: 5,
}

export const artifacts = {
  landing: { kernelPath: '/kernel', initrdPath: '/initrd', commandLine: '', memoryBytes: 2 ** 29 },
  agentBundleDirectory: '/bundle',
  parentBase: { kernelPath: '/parent-kernel', initrdPath: '/parent-initrd' },
  cacheDirectory: '/cache',
}

export const operator = { tokenId: 'token', role: 'OPERATOR' as const }

export function migrationRequest(change: Partial<MigrationRequest> = {}): MigrationRequest {
  return {
    sourceVirtualMachineId: `east/${sourceMachineId}`,
    destinationCloudId: 'west',
    networkMap: [{ sourceNetworkId: 'east/net', destinationNetworkId: 'west/net' }],
    permittedDowntimeMs: 60_000,
    cutoverPolicy: 'AUTOMATIC',
    healthCheck: { kind: 'HTTP', port: 8080, path: '/', timeoutMs: 500 },
    ...change,
  }
}
