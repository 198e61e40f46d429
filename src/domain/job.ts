/**
 * The life of a job, of its tasks and of its children.
 *
 *   job    PENDING ─► RUNNING ─► SUCCEEDED | FAILED | CANCELLED
 *   task   PENDING ─► RUNNING ─► DONE | FAILED | SKIPPED         (back to PENDING when its child is lost)
 *   child  FORKING ─► READY ◄─► BUSY ─► LOST | DELETED
 *
 * A task may run more than once; its result counts once.
 */
import type { ParentRuntime } from './parent-vm.ts'

export const jobStates = ['PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED'] as const
export type JobState = (typeof jobStates)[number]

export const jobDesires = ['RUN', 'CANCEL'] as const

export const taskStates = ['PENDING', 'RUNNING', 'DONE', 'FAILED', 'SKIPPED'] as const
export type TaskState = (typeof taskStates)[number]

/** A child that is forked is warm from the first moment. One that is booted, where the cloud's provider can't fork, warms up by itself. */
export const childOrigins = ['FORKED', 'BOOTED'] as const
export type ChildOrigin = (typeof childOrigins)[number]

export const childStates = ['FORKING', 'READY', 'BUSY', 'LOST', 'DELETED'] as const
export type ChildState = (typeof childStates)[number]

export const poisonPolicies = ['FAIL', 'SKIP'] as const
/** What is done about a task that killed its child as often as is allowed. */
export type PoisonPolicy = (typeof poisonPolicies)[number]

export const jobEventKinds = [
  'STATE_CHANGED',
  'PARENT_CHOSEN',
  'PARTITIONED',
  'CHILD_READY',
  'CHILD_LOST',
  'CHILD_DELETED',
  'TASK_FAILED',
  'TASK_SKIPPED',
  'NOTICE',
] as const
export type JobEventKind = (typeof jobEventKinds)[number]

export const taskPeers = ['INTERACTING', 'ALL'] as const
/** Which tasks a task may send messages to. */
export type TaskPeers = (typeof taskPeers)[number]

/** All of a job but its program and its tasks, which may be long. */
export interface JobRequest {
  requirements: JobRequirements
  privileges: JobPrivileges
  /** Null: as many as fit and are of use. */
  children: number | null
  /** Further attempts of a task that failed. */
  retries: number
  taskTimeoutMs: number
  onPoisonTask: PoisonPolicy
  /** Where children may be; null: wherever the parent has a copy. */
  cloudIds: string[] | null
}

/** What the parent has to offer. */
export interface JobRequirements {
  /** This one and no other; null: whichever fits. */
  parentVmId: string | null
  runtime: ParentRuntime
  /** Its first numbers, such as `18` or `3.11`; null: any. */
  runtimeVersion: string | null
  libraries: LibraryRequirement[]
}

export interface LibraryRequirement {
  name: string
  /** Its first numbers; null: any. */
  version: string | null
}

/** What each child may do, enforced outside the guest. */
export interface JobPrivileges {
  /** Null: no network card at all. */
  networkId: string | null
  /** 1 is one core. */
  cpuShare: number
  /** The most resident memory of its process; null: what the parent's memory and the machine around it take. */
  memoryBytes: number | null
  /** What it may write to its disk. */
  diskBytes: number
  maxLifetimeMs: number
  peers: TaskPeers
}

export interface JobProgram {
  source: string
  /** Read-only inputs of all tasks, by name. */
  shared: Record<string, string>
}

/** A copy of the parent before or after the job. */
export interface ParentHashes {
  ramSha256: string
  diskSha256: string
}

export function isJobEnded(state: JobState): boolean {
  return state === 'SUCCEEDED' || state === 'FAILED' || state === 'CANCELLED'
}

export function isTaskEnded(state: TaskState): boolean {
  return state === 'DONE' || state === 'FAILED' || state === 'SKIPPED'
}
