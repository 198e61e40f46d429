import type { InputFieldBuilder } from '@pothos/core'
import type { MigrationRequest, UnmappedNetworkPolicy } from '../src/domain/migration-request.ts'
import { faultInExcludedDirectories } from '../src/domain/excluded-directories.ts'
import type { CutoverPolicy, NonConvergencePolicy } from '../src/domain/migration.ts'
import { BandwidthLimitInput, toBandwidthSchedule } from './bandwidth-input.ts'
import { builder, type ResolvedTypes } from './builder.ts'
import { rowIdOf } from './global-id.ts'
import { HealthCheckInput, toHealthCheck } from './health-check-input.ts'
import { checkedKey, idempotencyKey } from './idempotency-key.ts'
import { invalidInput, within } from './invalid-input.ts'
import { HookInput, toHooks } from './hook-input.ts'
import { InterfaceAddressingInput, toInterfaceAddressing } from './interface-addressing-input.ts'
import { CutoverPolicyEnum, NonConvergencePolicyEnum } from './migration-enums.ts'
import { UnmappedNetworkPolicyEnum } from './network-map.ts'
import { StorageMappingInput, toStorageMap } from './storage-map-input.ts'

const defaultPermittedDowntimeMs = 60_000

const NetworkMappingInput = builder.inputType('NetworkMappingInput', {
  description: "Where interfaces on one of the source's networks go.",
  fields: (t) => ({
    sourceNetworkId: t.id({ required: true, description: "A network of the source's cloud." }),
    destinationNetworkId: t.id({ required: true, description: "A network of the destination's cloud." }),
  }),
})

/** The fields that validateMigration's and startMigration's inputs share. */
export function migrationRequestFields(t: InputFieldBuilder<ResolvedTypes, 'InputObject'>) {
  return {
    idempotencyKey: idempotencyKey(t),
    sourceVirtualMachineId: t.id({ required: true, description: 'The virtual machine to move.' }),
    destinationCloudId: t.id({ required: true, description: 'The cloud to move it to, of whatever provider; not the one that it is in.' }),
    networkMap: t.field({
      type: [NetworkMappingInput],
      defaultValue: [],
      required: true,
      description: 'Where its interfaces go. Those on networks that are not named follow `unmappedNetworkPolicy`.',
    }),
    unmappedNetworkPolicy: t.field({
      type: UnmappedNetworkPolicyEnum,
      defaultValue: 'FIRST',
      required: true,
      description: 'Where interfaces go whose network `networkMap` does not name.',
    }),
    storageMap: t.field({
      type: [StorageMappingInput],
      defaultValue: [],
      required: true,
      description: 'Where its disks go. Those that no entry is for go where the destination puts new disks.',
    }),
    addressing: t.field({
      type: [InterfaceAddressingInput],
      defaultValue: [],
      required: true,
      description:
        'Interfaces that get other addresses in the new place. The others keep what the guest is configured with: static addresses and the names of interfaces stay as they are.',
    }),
    hooks: t.field({
      type: [HookInput],
      defaultValue: [],
      required: true,
      description: 'What to run around phases, in this order where several are at one place. At most 32.',
    }),
    permittedDowntimeMs: t.int({
      defaultValue: defaultPermittedDowntimeMs,
      required: true,
      description: 'The criterion for the cutover is: estimated remaining time at most this. In milliseconds, at least 1.',
    }),
    cutoverPolicy: t.field({ type: CutoverPolicyEnum, defaultValue: 'AUTOMATIC', required: true, description: 'When the cutover comes.' }),
    nonConvergencePolicy: t.field({
      type: NonConvergencePolicyEnum,
      defaultValue: 'KEEP_SYNCING',
      required: true,
      description: 'What happens when the guest writes faster than the copy can follow.',
    }),
    excludedDirectories: t.stringList({
      defaultValue: [],
      required: true,
      description:
        "Absolute paths in the guest, at most 100. Their files' data is not copied, and they are empty in the copy; the directories themselves stay, with owner and mode.",
    }),
    bandwidth: t.field({
      type: BandwidthLimitInput,
      description: 'How much it may send over the network; as much as it can when left away.',
    }),
    healthCheck: t.field({
      type: HealthCheckInput,
      required: true,
      description: 'How the destination proves, while it is isolated, that it works.',
    }),
  }
}

interface MigrationRequestInput {
  idempotencyKey: string
  sourceVirtualMachineId: string
  destinationCloudId: string
  networkMap: { sourceNetworkId: string; destinationNetworkId: string }[]
  unmappedNetworkPolicy: UnmappedNetworkPolicy
  storageMap: (typeof StorageMappingInput.$inferInput)[]
  addressing: (typeof InterfaceAddressingInput.$inferInput)[]
  hooks: (typeof HookInput.$inferInput)[]
  permittedDowntimeMs: number
  cutoverPolicy: CutoverPolicy
  nonConvergencePolicy: NonConvergencePolicy
  excludedDirectories: string[]
  bandwidth?: typeof BandwidthLimitInput.$inferInput | null | undefined
  healthCheck: typeof HealthCheckInput.$inferInput
}

/** @throws PortolanError INVALID_INPUT with the path of the first part that breaks a rule. */
export function toMigrationRequest(input: MigrationRequestInput): MigrationRequest & { idempotencyKey: string } {
  return {
    idempotencyKey: checkedKey(input),
    sourceVirtualMachineId: rowIdOf('VirtualMachine', input.sourceVirtualMachineId, ['input', 'sourceVirtualMachineId']),
    destinationCloudId: rowIdOf('Cloud', input.destinationCloudId, ['input', 'destinationCloudId']),
    networkMap: input.networkMap.map((entry, index) => ({
      sourceNetworkId: rowIdOf('Network', entry.sourceNetworkId, ['input', 'networkMap', `${index}`, 'sourceNetworkId']),
      destinationNetworkId: rowIdOf('Network', entry.destinationNetworkId, ['input', 'networkMap', `${index}`, 'destinationNetworkId']),
    })),
    unmappedNetworkPolicy: input.unmappedNetworkPolicy,
    storageMap: toStorageMap(input.storageMap),
    addressing: toInterfaceAddressing(input.addressing),
    hooks: toHooks(input.hooks),
    permittedDowntimeMs: toPermittedDowntimeMs(input.permittedDowntimeMs),
    cutoverPolicy: input.cutoverPolicy,
    nonConvergencePolicy: input.nonConvergencePolicy,
    ...(input.bandwidth && { bandwidth: toBandwidthSchedule(input.bandwidth, ['input', 'bandwidth']) }),
    ...(input.excludedDirectories.length > 0 && { excludedDirectories: toExcludedDirectories(input.excludedDirectories) }),
    healthCheck: toHealthCheck(input.healthCheck),
  }
}

/** @throws PortolanError INVALID_INPUT */
export function toPermittedDowntimeMs(permittedDowntimeMs: number, of: readonly string[] = ['input']): number {
  return within(permittedDowntimeMs, 1, 2 ** 31 - 1, [...of, 'permittedDowntimeMs'])
}

function toExcludedDirectories(directories: string[]): string[] {
  const fault = faultInExcludedDirectories(directories)
  if (fault) throw invalidInput(fault, ['input', 'excludedDirectories'])
  return directories
}
