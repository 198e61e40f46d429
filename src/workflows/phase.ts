/** What a phase is, and what it gets. A phase is repeated after any crash: whatever it does must be safe to do again under the same operation ids. */
import type { MigrationAgents } from '../agent-gateway/gateway.ts'
import type { ExcludedPlace } from '../transfer/control-protocol.ts'
import type { ErrorCode, PortolanError } from '../domain/errors.ts'
import type { MigrationPhase, MigrationState } from '../domain/migration.ts'
import type { MigrationRequest } from '../domain/migration-request.ts'
import type { Occupation } from '../domain/phase-activity.ts'
import type { ProviderConnection } from '../plugin-sdk/index.ts'
import type { FreezeLeases } from './freeze-leases.ts'
import type { MigrationPatch, MigrationRow, MigrationStore } from './migration-store.ts'
import type { MigrationSettings } from './migration-settings.ts'

/** What phases leave for later ones and for their undo; kept in the database. */
export interface PhaseResults {
  /** `vmId` is null while the call is under way: the VM may be there, and is found by its unique id. */
  INSTANTIATE_DESTINATION: {
    uniqueId: string
    vmId: string | null
    /** It is the copy that an earlier attempt kept. */
    takenUp?: boolean | undefined
  }
  CONNECT_AGENTS: AgentLink
  /** Null: the source's provider can't fence. */
  ARM_FENCE: { strength: 'power' | 'host-lock' | 'guest-lock' | null }
  FREEZE: { freezingAt: number; frozenAt: number; interfaces: { mac: string; name: string }[] }
  SEND_REMAINDER: { sentAt: number; excluded?: ExcludedPlace[] }
  COMPARE_ROOTS: { equal: boolean }
  SEAL_COPY: { sealedAt: number }
  HEALTH_CHECK: { answeringAt: number }
  /** There from its first effect on: before, a rollback can still be refused. */
  STOP_DESTINATION: { gone: boolean }
}

/** Which processes of the agents are joined, and how: other ones have to be joined anew. */
export interface AgentLink {
  /** Kernel name of the source's disk, such as `vda`. */
  disk: string
  /** Null: the source was seen off since, and what ran in its memory is gone. */
  sourceInstanceId: string | null
  destinationInstanceId: string
  via: 'DIRECT' | 'RELAY'
}

/**
 * DONE goes on with the next phase. VOID ends this try to switch over: its phases are undone back to SYNC, which goes on. `ownFault` counts against the limit
 * of voided switchovers; a restart of the control plane doesn't. REFUSED: only of a rollback or a discard that has changed nothing yet; the migration is in its former `state`
 * again, with the reason to be read. `code` tells more than that the freeze did not last, where the last VOID that is allowed fails the migration.
 */
export type PhaseOutcome =
  | { outcome: 'DONE'; result?: PhaseResults[keyof PhaseResults] }
  | { outcome: 'VOID'; reason: string; ownFault: boolean; code?: ErrorCode; result?: PhaseResults[keyof PhaseResults] }
  | { outcome: 'REFUSED'; error: PortolanError; state: MigrationState }

export const done: PhaseOutcome = { outcome: 'DONE' }

export interface PhaseContext {
  /** As it was when the phase began, or was read last by `reread`. */
  readonly migration: MigrationRow
  reread(): Promise<MigrationRow>
  /** Aborted by cancel (where the phase can be cancelled), by the phase's time-out, and when the control plane ends. */
  readonly signal: AbortSignal
  /** True when an earlier run of this phase, in this process or another, was cut short. */
  readonly repeated: boolean
  /** The same for every repetition within one try to switch over. `call` tells the calls of one phase apart. */
  operationId(call: string): string
  /** The newest of each phase; an undo gets of its own phase what the try that it undoes has left, not what an earlier switchover has. */
  readonly results: Partial<PhaseResults>
  /** Writes down, in one transaction with the patch, what a phase that is still under way leaves for its repetition, here or in another process, and for its undo. */
  keep<Name extends keyof PhaseResults>(phase: Name, result: PhaseResults[Name], patch?: MigrationPatch): Promise<void>
  source(): Promise<ProviderConnection>
  destination(): Promise<ProviderConnection>
  agents(): Promise<MigrationAgents>
  readonly store: MigrationStore
  readonly leases: FreezeLeases
  readonly settings: MigrationSettings
  /** An event for the operator to read. */
  note(message: string): Promise<void>
  /** While the work lasts, this is what `activity` tells of, in place of the phase's own. */
  during<T>(occupation: Occupation, work: () => Promise<T>): Promise<T>
  /** What it is in the midst of; null: the phase's own. */
  readonly occupation: { what: Occupation; since: number } | null
  /** Waits as long as the operator wants it paused. True when it had to wait. Throws when aborted. */
  holdWhilePaused(): Promise<boolean>
}

/** How far the operator can steer it: PAUSABLE and cancellable; CANCELLABLE only; COMMITTING is neither, but can still turn out abandoned; FORWARD_ONLY has no way back. */
export type PhaseControl = 'PAUSABLE' | 'CANCELLABLE' | 'COMMITTING' | 'FORWARD_ONLY'

export interface Phase {
  name: MigrationPhase
  control: PhaseControl
  /** The longest that it may take, retries included; null where the operator decides. FORWARD_ONLY phases are retried for ever. */
  timeoutMs: number | null
  /** How long one try of its undo may take, where that is longer than usual: it is cut short then, and tried again. */
  undoTimeoutMs?: number
  /** What the request allows it, where that is less: it keeps to that by itself. */
  requestedMs?(request: MigrationRequest): number
  /** UNDER_LEASE: the source is frozen meanwhile, so a failure that may pass voids the switchover instead of being retried in place. */
  underLease?: true
  /** Its undo, or a forward-only phase itself, needs nothing but the source's site. Where an administrator attested that the source is dead, and it can't be reached or is gone, it counts as done. */
  atSource?: true
  /** One that is off is waited for as long as an agent that is lost, since somebody may start it; then the phase fails. */
  needsSourceGuest?: true
  /** It tries again itself what may pass, and what it throws is final. */
  ownRetries?: true
  do(context: PhaseContext): Promise<PhaseOutcome>
  /**
   * Also called when `do` was cut short anywhere, and repeated until it succeeds. Null: nothing to undo, with the reason beside it. COMMITTED: the way back
   * turned out to be closed, so it goes on forward.
   */
  undo: ((context: PhaseContext) => Promise<void | 'COMMITTED'>) | null
}

/** When the phase is given up, in milliseconds; null: never. */
export function givenUpAfterMs({ timeoutMs, requestedMs }: Phase, { request }: MigrationRow): number | null {
  return requestedMs?.(request) ?? timeoutMs
}
