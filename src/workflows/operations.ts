import type { Finding } from '../domain/finding.ts'
import type { MigrationRequest } from '../domain/migration-request.ts'

/** Who asks: for the idempotency scope and, later, the audit trail. */
export interface Actor {
  tokenId: string
  role: 'VIEWER' | 'OPERATOR' | 'ADMIN'
}

/**
 * What mutations may do. Each takes an idempotency key: the same key with the same input answers as the first time, with another input it is
 * refused (IDEMPOTENCY_KEY_REUSED). All throw PortolanError.
 */
export interface Operations {
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
  cancelMigration(actor: Actor, input: { idempotencyKey: string; migrationId: string }): Promise<{ migrationId: string }>
}
