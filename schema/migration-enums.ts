import type { BottleneckName } from '../src/domain/bottleneck.ts'
import type {
  Convergence,
  CutoverPolicy,
  DesiredState,
  MigrationDirection,
  MigrationPhase,
  MigrationState,
  NonConvergencePolicy,
} from '../src/domain/migration.ts'
import { describedEnum } from './described-enum.ts'

export const MigrationStateEnum = describedEnum<MigrationState>(
  'MigrationState',
  'The life of a migration. The last four end it; retry, rollback and discard begin there.',
  {
    PENDING: 'It was accepted, and its workflow has not begun.',
    RUNNING: 'It works; `phase` says at what.',
    PAUSED: 'An operator paused it: the source runs on, and what was copied is kept.',
    COMPLETED: 'The destination runs and is exposed; the source is off and kept.',
    FAILED: 'It ended before the commit; the source goes on. `error` says why.',
    CANCELLED: 'An operator cancelled it before the commit; the source goes on.',
    ROLLED_BACK: 'It was completed, and an operator went back: the source runs as it was at the freeze, and the destination is off.',
  },
)

export const MigrationPhaseEnum = describedEnum<MigrationPhase>('MigrationPhase', 'What a running migration works at, in this order.', {
  PRE_FLIGHT: 'Both sides are checked; nothing has changed.',
  ADMISSION: 'It waits for its turn under the concurrency limits; nothing has changed.',
  INSTANTIATE_DESTINATION: 'The destination is created with empty disks and boots the landing image.',
  INSTALL_AGENTS: 'The migration agent is put into the source.',
  CONNECT_AGENTS: 'Both agents dial in, and find the way to each other.',
  TRACK_CHANGES: 'The source begins to note which blocks change.',
  SYNC: 'Rounds: what changed is copied and verified while the source runs.',
  READY_TO_CUT_OVER: 'The criterion holds; syncing goes on until the cutover is asked for.',
  ARM_FENCE: 'From here on nothing starts the source anew but this migration: not its host, not its autostart.',
  FREEZE: 'Writes in the source are held, under a lease; downtime begins.',
  SEND_REMAINDER: 'What changed since the last round is copied.',
  COMPARE_ROOTS: "The hash trees of both sides' disks are compared.",
  SUSPEND_SOURCE: 'The provider of the source suspends it and closes its fence, and the lease is checked.',
  SEAL_COPY: 'The copied disks are kept as they were verified; later writes go to an overlay.',
  FIX_UP_GUEST: "The guest's network and mounts are fitted to the destination.",
  BOOT_DESTINATION: 'The destination boots from the copied disk, reached by nothing but the health check.',
  HEALTH_CHECK: 'The destination proves that it works.',
  FENCE_SOURCE: 'Before the commit: the fence that was closed around the source is looked at once more, and the source with it.',
  COMMIT: 'The durable record at the destination: before it only back, after it only forward.',
  EXPOSE: 'The destination is put on its networks; downtime ends.',
  RETIRE_SOURCE: 'The source is switched off and kept.',
  CLEAN_UP: 'Agents, certificates and what else served the migration are removed.',
  STOP_DESTINATION: 'Rollback: the destination shuts down, and is fenced.',
  RECORD_ROLLBACK: "Rollback: the durable record at the destination's site that the source is the one to live.",
  RELEASE_SOURCE: "Rollback: the source's fence is lifted.",
  START_SOURCE: 'Rollback: the source boots from its disk as it was at the freeze.',
  DISCARD_COPY: 'Discard: the copy that was kept at the destination is deleted.',
})

export const DesiredStateEnum = describedEnum<DesiredState>('DesiredState', 'What operators last asked for.', {
  RUN: 'To go on.',
  PAUSE: 'To stand still until resumed.',
  CANCEL: 'To end, with the source in service.',
})

export const CutoverPolicyEnum = describedEnum<CutoverPolicy>('CutoverPolicy', 'When the cutover comes.', {
  AUTOMATIC: 'As soon as the criterion holds: estimated remaining time at most the permitted downtime.',
  MANUAL: 'When `cutOverMigration` asks for it; until then rounds go on at READY_TO_CUT_OVER.',
})

export const NonConvergencePolicyEnum = describedEnum<NonConvergencePolicy>(
  'NonConvergencePolicy',
  'What happens when the guest writes faster than the copy can follow.',
  {
    KEEP_SYNCING: 'Rounds go on; the load may fall.',
    ABORT: 'The migration is undone and fails with NOT_CONVERGING.',
    FORCE: 'The cutover comes all the same, with a longer downtime than permitted.',
  },
)

export const ConvergenceEnum = describedEnum<Convergence>('Convergence', 'Whether rounds shrink fast enough for the criterion to be met.', {
  CONVERGING: 'They do.',
  NOT_CONVERGING: 'They do not: see `nonConvergencePolicy`.',
})

export const MigrationDirectionEnum = describedEnum<MigrationDirection>(
  'MigrationDirection',
  'Which way a migration goes through its phases.',
  {
    FORWARD: 'Onwards.',
    BACK_TO_SYNC: 'A switchover is undone; the source goes on, rounds too, and another switchover follows.',
    BACK_TO_START: 'Everything is undone, before the commit only; the source goes on.',
  },
)

export const TrackingModeEnum = describedEnum<'TRACEFS' | 'RESCAN'>('TrackingMode', 'How the source agent learns what changed.', {
  TRACEFS: "From the kernel's trace of finished writes: a round costs what changed.",
  RESCAN: 'By reading the disk again: a round costs what exists, and rounds are slower.',
})

export const TransportEnum = describedEnum<'DIRECT' | 'RELAY'>('Transport', 'How the agents reach each other.', {
  DIRECT: 'One dials the other.',
  RELAY: 'Through a relay, which sees ciphertext only.',
})

export const BottleneckEnum = describedEnum<BottleneckName>('Bottleneck', 'What the copy waits for most.', {
  SOURCE_DISK: "Reading the source's disk.",
  SOURCE_CPU: 'Hashing, compressing and encrypting at the source.',
  LINK: 'The network between the agents.',
  DESTINATION_DISK: "Writing the destination's disk.",
  DESTINATION_CPU: 'Decrypting, unpacking and verifying at the destination.',
  BANDWIDTH_LIMIT: 'The limit that the operator set.',
})
