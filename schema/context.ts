import type { ChangeFeed } from '../src/database/change-feed.ts'
import type { Database } from '../src/database/client.ts'
import type { AuditTrail } from '../src/workflows/audit-trail.ts'
import type { Actor, Operations } from '../src/workflows/operations.ts'

export interface LoadedPlugin {
  id: string
  /** The contract version it was written for. */
  apiVersion: { major: number; minor: number }
  /** JSON Schema of its options; null where the plugin's schema library can't tell. */
  optionsJsonSchema: Record<string, unknown> | null
  /** Empty where they are known only from a connection. */
  capabilities: string[]
}

export interface Plugins {
  list(): Promise<LoadedPlugin[]>
}

/** The schema reads and never writes. */
export type SchemaDatabase = Pick<Database, 'select'>
export type Changes = Pick<ChangeFeed, 'listen'>

/** What every resolver gets. Made anew for each operation. */
export interface Context {
  db: SchemaDatabase
  operations: Operations
  changes: Changes
  plugins: Plugins
  audit: Pick<AuditTrail, 'attempt'>
  /** The mutations that came to be run, by their names in the answer: each sees to its own entry in the audit trail. */
  begun: Set<string | number>
  actor: Actor
}
