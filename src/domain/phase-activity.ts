import type { MigrationPhase } from './migration.ts'

/** What a phase does, as the beginning of a sentence, and what it waits for while it does it. */
const activities: Record<MigrationPhase, { doing: string; waitsFor: string }> = {
  PRE_FLIGHT: { doing: 'Checks both sides', waitsFor: 'both clouds and the source guest' },
  ADMISSION: { doing: 'Waits for its turn', waitsFor: 'other migrations' },
  INSTANTIATE_DESTINATION: {
    doing: 'Makes the destination, or takes the machine that was left, and boots the landing image on it',
    waitsFor: "the destination's cloud",
  },
  INSTALL_AGENTS: { doing: 'Puts the agent into the source', waitsFor: 'the source guest' },
  CONNECT_AGENTS: { doing: 'Waits for both agents to dial in, and joins them', waitsFor: "the landing image's boot and the network" },
  TRACK_CHANGES: { doing: 'Begins to note which blocks change', waitsFor: 'the source guest' },
  SYNC: { doing: 'Copies and verifies what changed', waitsFor: 'the copy' },
  READY_TO_CUT_OVER: { doing: 'Keeps the copy fresh until the cutover', waitsFor: "the operator's word, or the time that was set" },
  ARM_FENCE: { doing: "Arms the source's fence", waitsFor: "the source's cloud" },
  FREEZE: { doing: 'Holds the writes in the source', waitsFor: 'the source guest' },
  SEND_REMAINDER: { doing: 'Copies the remainder', waitsFor: 'the copy' },
  COMPARE_ROOTS: { doing: "Compares the hash trees of both sides' disks", waitsFor: "the destination's disk" },
  SUSPEND_SOURCE: { doing: 'Suspends the source', waitsFor: "the source's cloud" },
  SEAL_COPY: { doing: 'Seals the copied disks as they were verified', waitsFor: "the destination's cloud" },
  FIX_UP_GUEST: { doing: 'Fits the copied system to its new place', waitsFor: "the destination's agent" },
  BOOT_DESTINATION: { doing: 'Boots the destination from the copied disk', waitsFor: "the destination's cloud" },
  HEALTH_CHECK: { doing: "Waits for the destination's service to answer", waitsFor: "the destination's boot" },
  FENCE_SOURCE: { doing: "Closes the source's fence", waitsFor: "the source's cloud" },
  COMMIT: { doing: "Writes the commit to the destination's records", waitsFor: "the destination's cloud" },
  EXPOSE: { doing: 'Puts the destination on its networks', waitsFor: "the destination's cloud" },
  RETIRE_SOURCE: { doing: 'Switches the source off, and keeps it', waitsFor: "the source's cloud" },
  CLEAN_UP: { doing: 'Merges the overlay into the copied disks, and tidies up', waitsFor: "the destination's disk" },
  STOP_DESTINATION: { doing: 'Shuts the destination down, and fences it', waitsFor: "the destination's shutdown" },
  RECORD_ROLLBACK: { doing: 'Writes the rollback to the records beside the copy that is left', waitsFor: 'its cloud' },
  RELEASE_SOURCE: { doing: "Lifts the source's fence", waitsFor: "the source's cloud" },
  START_SOURCE: { doing: 'Starts the source', waitsFor: "the source's cloud" },
  DISCARD_COPY: { doing: 'Deletes the kept copy', waitsFor: "the destination's cloud" },
}

/** What is done, as the beginning of a sentence, what it waits for, and when that is given up; null: never. */
export interface Occupation {
  doing: string
  waitsFor: string
  timeoutMs: number | null
}

/** Stored, and not begun yet. */
export const pendingActivity = 'Waits for its control plane to begin it.'

export const pausedOccupation: Occupation = {
  doing: 'Is paused, with what changes in the source still noted',
  waitsFor: 'its operator to resume or cancel it',
  timeoutMs: null,
}

/** One sentence. `undoing`: on the way back. `timeoutMs` null: for as long as it takes. */
export function activityOf(phase: MigrationPhase, of: { elapsedMs: number; timeoutMs: number | null; undoing?: boolean }): string {
  return of.undoing
    ? `Undoes ${phase}, for ${secondsOf(of.elapsedMs)} now; it is tried until it succeeds.`
    : sentenceOf({ ...activities[phase], timeoutMs: of.timeoutMs }, of.elapsedMs)
}

export function sentenceOf({ doing, waitsFor, timeoutMs }: Occupation, elapsedMs: number): string {
  const limit = timeoutMs === null ? 'it takes the time that it takes' : `given up after ${secondsOf(timeoutMs)}`
  return `${doing}, for ${secondsOf(elapsedMs)} now; waits for ${waitsFor}, ${limit}.`
}

/** Whoever runs it says something every few seconds: told by another control plane, a silence is part of the answer. */
export function heardOf(activity: string, silentMs: number): string {
  return silentMs < noticedSilenceMs ? activity : `${activity} Last heard of ${secondsOf(silentMs)} ago: see that its control plane runs.`
}

const noticedSilenceMs = 10_000

function secondsOf(ms: number): string {
  return `${Math.round(ms / 1000)} s`
}
