import type { ConcurrencyScope } from '../domain/admission.ts'
import type { BandwidthSchedule } from '../domain/bandwidth-schedule.ts'
import type { Finding } from '../domain/finding.ts'
import type { CutoverPolicy } from '../domain/migration.ts'
import type { MigrationChanges, MigrationRequest } from '../domain/migration-request.ts'
import type { JobOperations } from './job-operations.ts'
import type { ParentVmOperations } from './parent-vm-operations.ts'
import type { MachineVerdict } from './verdict-reader.ts'
import type { VerdictQuestion } from './verdict-subjects.ts'

/** Who asks: for the idempotency scope and the audit trail. */
export interface Actor {
  tokenId: string
  role: 'VIEWER' | 'OPERATOR' | 'ADMIN'
}

/**
 * What mutations may do. Each takes an idempotency key: the same key with the same input answers as the first time, with another input it is
 * refused (IDEMPOTENCY_KEY_REUSED). All throw PortolanError.
 */
export interface Operations extends JobOperations, ParentVmOperations {
  /** `token` is null when the key was used before: it is shown once, since only its hash is stored. */
  createApiToken(
    actor: Actor,
    input: { idempotencyKey: string; name: string; role: Actor['role'] },
  ): Promise<{ apiTokenId: string; token: string | null }>
  /** Ends the token at once, subscriptions included. The last admin's is refused (CONFLICT). */
  revokeApiToken(actor: Actor, input: { idempotencyKey: string; apiTokenId: string }): Promise<{ apiTokenId: string }>
  connectCloud(
    actor: Actor,
    input: { idempotencyKey: string; name: string; pluginId: string; options: unknown },
  ): Promise<{ cloudId: string }>
  disconnectCloud(actor: Actor, input: { idempotencyKey: string; cloudId: string }): Promise<{ cloudId: string }>
  refreshTopology(actor: Actor, input: { idempotencyKey: string; cloudId: string }): Promise<{ cloudId: string }>
  validateMigration(actor: Actor, input: MigrationRequest): Promise<Finding[]>
  /** Writes row, key and lock in one transaction, then submits the workflow; answers at once. `cutoverAt`: it cuts over not before then. */
  startMigration(actor: Actor, input: MigrationRequest & { idempotencyKey: string; cutoverAt?: Date }): Promise<{ migrationId: string }>
  pauseMigration(actor: Actor, input: { idempotencyKey: string; migrationId: string }): Promise<{ migrationId: string }>
  resumeMigration(actor: Actor, input: { idempotencyKey: string; migrationId: string }): Promise<{ migrationId: string }>
  /** Cuts over once the criterion holds, and not before `at` where given. */
  cutOverMigration(actor: Actor, input: { idempotencyKey: string; migrationId: string; at?: Date }): Promise<{ migrationId: string }>
  /** Boots the copy of one that is READY_TO_CUT_OVER, isolated, and removes that again. */
  testMigration(actor: Actor, input: { idempotencyKey: string; migrationId: string }): Promise<{ migrationId: string; testId: string }>
  /** Another attempt of one that failed or was cancelled, from the copy that it kept. What `changes` doesn't name stays as it was asked for. */
  retryMigration(
    actor: Actor,
    input: { idempotencyKey: string; migrationId: string; changes?: MigrationChanges },
  ): Promise<{ migrationId: string }>
  /**
   * Back to the retained source of one that was completed. What was written at the destination since is lost, unless it is to be carried back: that is a migration of its
   * own, whose id is answered.
   */
  rollbackMigration(
    actor: Actor,
    input: { idempotencyKey: string; migrationId: string; carryWritesBack?: true },
  ): Promise<{ migrationId: string }>
  /** Deletes the copy that one keeps. */
  discardMigration(actor: Actor, input: { idempotencyKey: string; migrationId: string }): Promise<{ migrationId: string }>
  /** What webhooks are signed with. Kept sealed, and shown to nobody; setting it again replaces it. */
  setWebhookSecret(actor: Actor, input: { idempotencyKey: string; name: string; secret: string }): Promise<{ name: string }>
  /** Deleting what does not exist is a success. */
  deleteWebhookSecret(actor: Actor, input: { idempotencyKey: string; name: string }): Promise<{ name: string }>
  /** Holds within a second where it copies. */
  setBandwidthLimit(
    actor: Actor,
    input: { idempotencyKey: string; migrationId: string; bandwidth: BandwidthSchedule },
  ): Promise<{ migrationId: string }>
  cancelMigration(actor: Actor, input: { idempotencyKey: string; migrationId: string }): Promise<{ migrationId: string }>
  /** Stores a group; nothing is moved until it is started. */
  createMigrationGroup(actor: Actor, input: NewGroup & { idempotencyKey: string }): Promise<{ migrationGroupId: string }>
  startMigrationGroup(actor: Actor, input: { idempotencyKey: string; migrationGroupId: string }): Promise<{ migrationGroupId: string }>
  /** All members cut over in order once they are ready, and not before `at` where given. */
  cutOverMigrationGroup(
    actor: Actor,
    input: { idempotencyKey: string; migrationGroupId: string; at?: Date },
  ): Promise<{ migrationGroupId: string }>
  pauseMigrationGroup(actor: Actor, input: { idempotencyKey: string; migrationGroupId: string }): Promise<{ migrationGroupId: string }>
  resumeMigrationGroup(actor: Actor, input: { idempotencyKey: string; migrationGroupId: string }): Promise<{ migrationGroupId: string }>
  /** Ends all members that have not committed; those that were completed stay so. */
  cancelMigrationGroup(actor: Actor, input: { idempotencyKey: string; migrationGroupId: string }): Promise<{ migrationGroupId: string }>
  /** For each virtual machine whether it has been moved, read from the clouds now; changes nothing. */
  migrationVerdicts(actor: Actor, question: VerdictQuestion): Promise<MachineVerdict[]>
  /** Does what is safe by the verdicts, once for each attempt; answers at once with what it will be seen by. */
  reconcileMigrations(actor: Actor, input: VerdictQuestion & { idempotencyKey: string }): Promise<{ reconciliationIds: string[] }>
  /** `of` names the machine by its migration, or by its unique id and the cloud whose records tell of it. */
  attestSourceDead(
    actor: Actor,
    input: { idempotencyKey: string; of: { migrationId: string } | { uniqueId: string; cloudId: string }; statement: string },
  ): Promise<{ attestationId: string }>
  /** Holds from now on: who copies goes on, also where fewer are allowed now. */
  setConcurrencyLimits(actor: Actor, input: { idempotencyKey: string; limits: LimitEntry[] }): Promise<void>
}

export interface NewGroup {
  name: string
  cutoverPolicy: CutoverPolicy
  cutoverAt?: Date
  members: NewMember[]
}

export interface NewMember {
  name: string
  /** Names of members of the same group. */
  dependsOn: string[]
  /** Its own cutover policy counts for nothing: the group's does. */
  request: MigrationRequest
}

export interface LimitEntry {
  scope: ConcurrencyScope
  /** Row id of a cloud or host; null for all of the scope that have no limit of their own. */
  subject: string | null
  /** Null: back to the default. */
  limit: number | null
}
