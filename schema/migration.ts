import type { BottleneckName } from '../src/domain/bottleneck.ts'
import type { Downtime } from '../src/domain/migration.ts'
import type { MigrationRequest } from '../src/domain/migration-request.ts'
import { migrations } from '../src/database/tables/migration.ts'
import { builder } from './builder.ts'
import { cappedInt } from './capped-int.ts'
import { Cloud } from './cloud.ts'
import { ErrorInterface, errorValue } from './errors.ts'
import { FindingType } from './finding.ts'
import { HealthCheck } from './health-check.ts'
import {
  BottleneckEnum,
  ConvergenceEnum,
  CutoverPolicyEnum,
  DesiredStateEnum,
  MigrationDirectionEnum,
  MigrationPhaseEnum,
  MigrationStateEnum,
  NonConvergencePolicyEnum,
  TrackingModeEnum,
  TransportEnum,
} from './migration-enums.ts'
import { Network } from './network.ts'
import { rowNode } from './row-node.ts'
import { VirtualMachine } from './virtual-machine.ts'
import { heardOf } from '../src/domain/phase-activity.ts'
import { errorCodes } from '../src/domain/errors.ts'

const DowntimeType = builder.objectRef<Downtime>('Downtime').implement({
  description:
    'How the downtime is made up, from the freeze of the source to the exposed destination. All in milliseconds; each at most 2,147,483,647.',
  fields: (t) => ({
    freezeMs: t.int({ description: 'Holding the writes in the source, in milliseconds.', resolve: ({ freezeMs }) => cappedInt(freezeMs) }),
    transferMs: t.int({ description: 'Copying the remainder, in milliseconds.', resolve: ({ transferMs }) => cappedInt(transferMs) }),
    verifyMs: t.int({ description: "Comparing both sides' hash trees, in milliseconds.", resolve: ({ verifyMs }) => cappedInt(verifyMs) }),
    bootMs: t.int({
      description: 'Suspending the source and booting the destination from the copied disk, in milliseconds.',
      resolve: ({ bootMs }) => cappedInt(bootMs),
    }),
    healthMs: t.int({ description: 'Health check, commit and exposure, in milliseconds.', resolve: ({ healthMs }) => cappedInt(healthMs) }),
    totalMs: t.int({
      description: 'The sum of all parts, in milliseconds.',
      resolve: (parts) => cappedInt(parts.freezeMs + parts.transferMs + parts.verifyMs + parts.bootMs + parts.healthMs),
    }),
  }),
})

const NetworkMapping = builder.objectRef<MigrationRequest['networkMap'][number]>('NetworkMapping').implement({
  description: "Where interfaces on one of the source's networks go.",
  fields: (t) => ({
    source: t.field({
      type: Network,
      nullable: true,
      description: 'A network of the source; null where its cloud no longer has it.',
      resolve: (entry) => entry.sourceNetworkId,
    }),
    destination: t.field({
      type: Network,
      nullable: true,
      description: 'The network of the destination in its place; null where its cloud no longer has it.',
      resolve: (entry) => entry.destinationNetworkId,
    }),
  }),
})

export const Migration = rowNode('Migration', migrations)
Migration.implement({
  description: 'The move of a virtual machine to another cloud, from `startMigration` to its end. Its workflow alone writes it.',
  fields: (t) => ({
    state: t.expose('state', { type: MigrationStateEnum, description: 'Its life as a whole.' }),
    phase: t.expose('phase', { type: MigrationPhaseEnum, description: 'What it works at, or worked at last.' }),
    desired: t.expose('desired', { type: DesiredStateEnum, description: 'What operators last asked for; `state` follows.' }),
    direction: t.expose('direction', { type: MigrationDirectionEnum, description: 'Whether it goes on or is being undone.' }),
    attempt: t.exposeInt('attempt', { description: 'Counted from 1; grows with each retry.' }),
    switchover: t.exposeInt('switchover', {
      description: 'Counts the tries to switch over within the attempt, from 1; a voided one is undone and tried again.',
    }),
    problem: t.exposeString('problem', {
      nullable: true,
      description: 'What it waits for or tries again at present: one sentence. Null when nothing is in its way.',
    }),
    activity: t.string({
      nullable: true,
      description:
        'What it does at present, for how long already, and when that is given up at the latest: one sentence, and since when nothing was heard where that is long ago. Null once it has ended.',
      resolve: ({ activity, updatedAt }) => (activity === null ? null : heardOf(activity, Date.now() - updatedAt.getTime())),
    }),
    copyKept: t.exposeBoolean('copyKept', {
      description:
        'Whether it has ended undone and its copy is kept at the destination, powered off: for `retryMigration`, or until `discardMigration`.',
    }),
    rollsBack: t.field({
      type: Migration,
      nullable: true,
      description:
        'The completed migration whose writes this one carries back (`rollbackMigration` with `carryWritesBack`); null for any other.',
      resolve: (row) => row.rollsBackMigrationId,
    }),
    exposedAt: t.expose('exposedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When the destination went live; null before. A rollback loses what was written there since, unless it carries it back.',
    }),
    source: t.field({
      type: VirtualMachine,
      description: 'The virtual machine that is moved.',
      resolve: (row) => row.sourceVirtualMachineId,
    }),
    sourceCloud: t.field({ type: Cloud, description: 'The cloud it leaves.', resolve: (row) => row.sourceCloudId }),
    destination: t.field({
      type: VirtualMachine,
      nullable: true,
      description: 'The virtual machine that takes its place; null before it is instantiated and after it was deleted.',
      resolve: (row) => row.destinationVirtualMachineId,
    }),
    destinationCloud: t.field({ type: Cloud, description: 'The cloud it goes to.', resolve: (row) => row.destinationCloudId }),
    networkMap: t.field({
      type: [NetworkMapping],
      description: "Where its interfaces go; those on other networks go to the destination's first one.",
      resolve: (row) => row.request.networkMap,
    }),
    healthCheck: t.field({
      type: HealthCheck,
      description: 'How the destination proves that it works.',
      resolve: (row) => row.request.healthCheck,
    }),
    cutoverPolicy: t.expose('cutoverPolicy', { type: CutoverPolicyEnum, description: 'When the cutover comes.' }),
    cutoverRequestedAt: t.expose('cutoverRequestedAt', {
      type: 'DateTime',
      nullable: true,
      deprecationReason: '`cutoverAt` says it too, also for a member of a group.',
      description: 'When `cutOverMigration` asked for the cutover; null where it did not.',
    }),
    nonConvergencePolicy: t.field({
      type: NonConvergencePolicyEnum,
      description: 'What happens when the guest writes faster than the copy can follow.',
      resolve: (row) => row.request.nonConvergencePolicy ?? 'KEEP_SYNCING',
    }),
    convergence: t.expose('convergence', {
      type: ConvergenceEnum,
      nullable: true,
      description: 'Whether the criterion can be met; null before there is something to judge by.',
    }),
    permittedDowntimeMs: t.exposeInt('permittedDowntimeMs', {
      description: 'The criterion is `estimatedRemainingMs <= permittedDowntimeMs`. In milliseconds.',
    }),
    estimatedRemainingMs: t.int({
      nullable: true,
      description:
        'Downtime that a cutover would take now, by estimate: freeze, transfer, verification and boot, in milliseconds, at most 2,147,483,647; null before there is one.',
      resolve: ({ estimatedRemainingMs }) => (estimatedRemainingMs === null ? null : cappedInt(estimatedRemainingMs)),
    }),
    etaMs: t.int({
      nullable: true,
      description:
        'Estimated time in milliseconds, at most 2,147,483,647. Where rounds are copied (SYNC, READY_TO_CUT_OVER, SEND_REMAINDER): until the present round and those that are still needed after it are done, which in SYNC is when it is ready to cut over; from the rate of copy against the rate of change. In any other phase: until that phase ends, going by how long it took the last time from and to the same clouds; 0 where it takes longer. Null where there is no estimate, where the criterion never holds at these rates, and while it waits for its turn, runs a hook, is paused or is undone.',
      resolve: ({ etaMs }) => (etaMs === null ? null : cappedInt(etaMs)),
    }),
    rateBytesPerSecond: t.exposeFloat('rateBytesPerSecond', {
      nullable: true,
      description: 'How fast the disks are gone through at present, in bytes a second; null where it does not copy.',
    }),
    bottleneck: t.field({
      type: BottleneckEnum,
      nullable: true,
      description: 'What the copy waits for most; null where it does not copy.',
      resolve: (row) => row.bottleneck as BottleneckName | null,
    }),
    trackingMode: t.expose('trackingMode', {
      type: TrackingModeEnum,
      nullable: true,
      description: 'How the source agent learns what changed; null before it does.',
    }),
    transport: t.expose('via', {
      type: TransportEnum,
      nullable: true,
      description: 'How the agents reach each other; null before they do.',
    }),
    diskBytes: t.expose('diskBytes', {
      type: 'ByteCount',
      nullable: true,
      description: 'Size of all disks together, in bytes; null before it was read.',
    }),
    bytesSent: t.expose('bytesSent', { type: 'ByteCount', description: 'All that went from agent to agent, hash trees too, in bytes.' }),
    sourceRoot: t.exposeString('sourceRoot', {
      nullable: true,
      description: "Root of the hash tree over the source's disks, 64 hex digits; null before the comparison.",
    }),
    destinationRoot: t.exposeString('destinationRoot', {
      nullable: true,
      description: "Root of the hash tree over the destination's disks as read back, 64 hex digits; null before the comparison.",
    }),
    verified: t.boolean({
      nullable: true,
      description:
        "Whether both roots are equal: whether the destination's disks hold what the frozen source's held. Null before the comparison.",
      resolve: (row) => (row.sourceRoot === null || row.destinationRoot === null ? null : row.sourceRoot === row.destinationRoot),
    }),
    downtime: t.expose('downtime', {
      type: DowntimeType,
      nullable: true,
      description: 'How long nothing answered, and why; null before it is over.',
    }),
    findings: t.expose('findings', { type: [FindingType], description: 'What pre-flight found.' }),
    error: t.field({
      type: ErrorInterface,
      nullable: true,
      description: 'Why it failed, or why its rollback was refused before anything was changed; null otherwise.',
      resolve: (row) => (row.errorCode === null ? null : storedError(row)),
    }),
    createdAt: t.expose('createdAt', { type: 'DateTime', description: 'When it was asked for.' }),
    startedAt: t.expose('startedAt', { type: 'DateTime', nullable: true, description: 'When its workflow began; null before.' }),
    endedAt: t.expose('endedAt', { type: 'DateTime', nullable: true, description: 'When all was done, clean-up included; null before.' }),
    updatedAt: t.expose('updatedAt', { type: 'DateTime', description: 'When anything of it last changed.' }),
    durationMs: t.int({
      nullable: true,
      description: 'From its start to its end, in milliseconds, at most 2,147,483,647; null while it runs.',
      resolve: (row) => (row.startedAt && row.endedAt ? cappedInt(row.endedAt.getTime() - row.startedAt.getTime()) : null),
    }),
  }),
})

function storedError(row: typeof migrations.$inferSelect) {
  return errorValue({
    // A row of a later version may have a code that this one does not know.
    code: errorCodes.find((code) => code === row.errorCode) ?? 'INTERNAL',
    message: row.errorMessage ?? '',
    retryable: row.errorRetryable ?? false,
    remedy: row.errorRemedy ?? '',
    path: [],
  })
}
