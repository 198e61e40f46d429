import type { Finding } from '../domain/finding.ts'
import type { MigrationRequest } from '../domain/migration-request.ts'
import type { FixedDowntime } from '../domain/fixed-downtime.ts'
import type { Endpoint, LandingImage } from '../plugin-sdk/index.ts'
import type { GroupCutover } from './group-cutover.ts'
import type { OwnTraces } from './migration-check.ts'
import type { MigrationTestStore } from './migration-test-store.ts'
import type { Webhooks } from './webhooks.ts'

/** What the set-up built for migrations. Paths on this machine. */
export interface MigrationArtifacts {
  landing: LandingImage
  agentBundleDirectory: string
}

export interface MigrationSettings {
  artifacts: MigrationArtifacts
  /** Hosts told to agents before those that the provider suggests. */
  advertise: string[]
  /** Where the gateway listens, and its relay. */
  agentEndpoints: readonly Endpoint[]
  relayEndpoints: readonly Endpoint[]
  timings: MigrationTimings
  preFlight(request: MigrationRequest, signal: AbortSignal, own: OwnTraces): Promise<Finding[]>
  fixedDowntime(destinationCloudId: string): Promise<FixedDowntime>
  refreshTopology(cloudId: string, signal: AbortSignal): Promise<void>
  webhooks: Webhooks
  migrationTests: MigrationTestStore
  /** Whether an administrator attested that the source of this attempt is dead. */
  attestedDead(migration: { id: string; attempt: number }): Promise<boolean>
  /** Null: it has its slot, and may copy. Else what it waits for (see admission.ts). */
  admit(migration: { id: string; attempt: number }): Promise<string | null>
  groupCutover(migrationId: string): Promise<GroupCutover | null>
}

/** All milliseconds. Tests shorten them. */
export interface MigrationTimings {
  /** The watchdog in the guest thaws when nobody renewed the freeze for this long. */
  leaseMs: number
  /** How long a step of the engine waits for a phase before it asks again. */
  sliceMs: number
  /** How often a running phase looks for the operator's wishes. */
  pollMs: number
  firstRetryMs: number
  maxRetryMs: number
  /** Between rounds that come one after the other: an empty one takes no time. */
  roundGapMs: number
  /** Between rounds while READY_TO_CUT_OVER waits. */
  holdMs: number
  /** For an agent to dial in, or to dial in again. */
  agentMs: number
  /** How often a cloud is asked whether a virtual machine is off whose agent is silent. */
  powerLookMs: number
  /** A migration fails when no round could be run for so long, whatever was in its way. */
  lostMs: number
  /** For an answer of an agent that is at hand. */
  requestMs: number
  /** A round of which nothing is heard for this long is cut short. */
  stallMs: number
  /** The same for a round that is heard of, and in which nothing moves any more, as where a disk hangs. Longer than a slow disk takes to flush all that it was sent. */
  standstillMs: number
  /** The same while the source is frozen: a round in which nothing is looked at or verified for this long. */
  frozenStallMs: number
  /** How long the destination may be unreachable at the commit before it is asked to call it off. */
  commitMs: number
  healthPollMs: number
  /** How long one try of a phase's undo may take that has no time-out of its own. */
  undoMs: number
}

export const defaultTimings: MigrationTimings = {
  leaseMs: 20_000,
  sliceMs: 20_000,
  pollMs: 250,
  firstRetryMs: 500,
  maxRetryMs: 10_000,
  roundGapMs: 100,
  holdMs: 2_000,
  agentMs: 120_000,
  powerLookMs: 5_000,
  lostMs: 900_000,
  requestMs: 60_000,
  stallMs: 90_000,
  standstillMs: 900_000,
  frozenStallMs: 15_000,
  commitMs: 60_000,
  healthPollMs: 500,
  undoMs: 5 * 60_000,
}

/** A round that gets nowhere is given up no later than agents that are away, but never within what a busy machine takes for a breath. */
export function stallMsFor(lostMs: number): number {
  return Math.min(defaultTimings.stallMs, Math.max(lostMs, leastStallMs))
}

const leastStallMs = 20_000

/** The guest port where the destination's agent takes the source's connection. */
export const transferPort = 7443
