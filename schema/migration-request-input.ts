import type { InputFieldBuilder } from '@pothos/core'
import type { MigrationRequest, UnmappedNetworkPolicy } from '../src/domain/migration-request.ts'
import { faultInExcludedDirectories } from '../src/domain/excluded-directories.ts'
import type { CutoverPolicy, NonConvergencePolicy } from '../src/domain/migration.ts'
import { BandwidthLimitInput, toBandwidthSchedule } from './bandwidth-input.ts'
import { builder, type ResolvedTypes } from './builder.ts'
import { rowIdOf } from './global-id.ts'
import { checkedKey, idempotencyKey } from './idempotency-key.ts'
import { invalidInput, within } from './invalid-input.ts'
import { HookInput, toHooks } from './hook-input.ts'
import { InterfaceAddressingInput, toInterfaceAddressing } from './interface-addressing-input.ts'
import { CutoverPolicyEnum, NonConvergencePolicyEnum } from './migration-enums.ts'
import { UnmappedNetworkPolicyEnum } from './network-map.ts'
import { StorageMappingInput, toStorageMap } from './storage-map-input.ts'

const longestTimeoutMs = 3_600_000
const defaults = { permittedDowntimeMs: 60_000, timeoutMs: 120_000 }

const HttpHealthCheckInput = builder.inputType('HttpHealthCheckInput', {
  description: 'Passes when a GET answers with a status from 200 to 299.',
  fields: (t) => ({
    port: t.int({ required: true, description: 'TCP port of the guest, 1 to 65535.' }),
    path: t.string({ defaultValue: '/', required: true, description: 'Path of the request, beginning with a slash.' }),
    timeoutMs: t.int({
      defaultValue: defaults.timeoutMs,
      required: true,
      description: 'How long it may take from the boot until it passes, in milliseconds, 1 to 3,600,000.',
    }),
  }),
})

const TcpHealthCheckInput = builder.inputType('TcpHealthCheckInput', {
  description: 'Passes when the guest accepts a connection.',
  fields: (t) => ({
    port: t.int({ required: true, description: 'TCP port of the guest, 1 to 65535.' }),
    timeoutMs: t.int({
      defaultValue: defaults.timeoutMs,
      required: true,
      description: 'How long it may take from the boot until it passes, in milliseconds, 1 to 3,600,000.',
    }),
  }),
})

const HealthCheckInput = builder.inputType('HealthCheckInput', {
  description: 'How the destination proves, while it is isolated, that it works. Give exactly one.',
  isOneOf: true,
  fields: (t) => ({
    http: t.field({ type: HttpHealthCheckInput, description: 'By an HTTP request.' }),
    tcp: t.field({ type: TcpHealthCheckInput, description: 'By a connection.' }),
  }),
})

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
      defaultValue: defaults.permittedDowntimeMs,
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
    permittedDowntimeMs: within(input.permittedDowntimeMs, 1, 2 ** 31 - 1, ['input', 'permittedDowntimeMs']),
    cutoverPolicy: input.cutoverPolicy,
    nonConvergencePolicy: input.nonConvergencePolicy,
    ...(input.bandwidth && { bandwidth: toBandwidthSchedule(input.bandwidth, ['input', 'bandwidth']) }),
    ...(input.excludedDirectories.length > 0 && { excludedDirectories: toExcludedDirectories(input.excludedDirectories) }),
    healthCheck: toHealthCheck(input.healthCheck),
  }
}

function toExcludedDirectories(directories: string[]): string[] {
  const fault = faultInExcludedDirectories(directories)
  if (fault) throw invalidInput(fault, ['input', 'excludedDirectories'])
  return directories
}

function toHealthCheck(input: typeof HealthCheckInput.$inferInput): MigrationRequest['healthCheck'] {
  const kind = input.http ? 'http' : 'tcp'
  const check = input.http ?? input.tcp
  const port = within(check.port, 1, 65_535, ['input', 'healthCheck', kind, 'port'])
  const timeoutMs = within(check.timeoutMs, 1, longestTimeoutMs, ['input', 'healthCheck', kind, 'timeoutMs'])
  if (!input.http) return { kind: 'TCP', port, timeoutMs }
  const { path } = input.http
  if (!/^\/[\x21-\x7e]{0,1000}$/.test(path))
    throw invalidInput('must begin with a slash and be at most 1,001 visible ASCII characters', ['input', 'healthCheck', 'http', 'path'])
  return { kind: 'HTTP', port, path, timeoutMs }
}
