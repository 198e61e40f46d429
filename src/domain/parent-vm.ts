/**
 * A parent VM: a virtual machine that was booted, warmed up and saved, so that children are forked from it.
 *
 *   REGISTERED ─► BUILDING ─► READY ─► DELETING ─► DELETED
 *                     └─► FAILED ──────┘
 *
 * Another recipe under its name makes the next generation of it: it is REGISTERED again, and jobs that run go on with the generation that they began with.
 */
export const parentStates = ['REGISTERED', 'BUILDING', 'READY', 'FAILED', 'DELETING', 'DELETED'] as const
export type ParentState = (typeof parentStates)[number]

export const copyStates = ['BUILDING', 'READY', 'FAILED', 'DELETED'] as const
/** Of a copy of a parent at one cloud. */
export type CopyState = (typeof copyStates)[number]

export const parentRuntimes = ['NODE', 'PYTHON'] as const
export type ParentRuntime = (typeof parentRuntimes)[number]

/** What a parent is made of: the same recipe gives the same parent. */
export interface ParentRecipe {
  runtime: ParentRuntime
  /** Names of Debian packages, in alphabetical order; empty where `imagePath` is given. */
  packages: string[]
  /** A raw disk image on the control plane's machine, which is copied and never changed; null where it is made of packages. */
  imagePath: string | null
  /** Source text that the runtime runs once before the parent is saved; null for none. */
  warmUp: string | null
  memoryBytes: number
  cpuCount: number
  privileges: ParentPrivileges
}

/** The most that a child may be given. Its memory is bounded by the parent's. */
export interface ParentPrivileges {
  network: boolean
  /** 1 is one core. */
  cpuShare: number
  /** What it may write to its disk. */
  diskBytes: number
  maxLifetimeMs: number
}

/** What the guest said of itself when it was warm. */
export interface ParentOffers {
  runtime: ParentRuntime
  runtimeVersion: string
  /** Name to version. */
  libraries: Record<string, string>
}

/** Nothing can be started on it, now or later. */
export function isParentGone(state: ParentState): boolean {
  return state === 'DELETING' || state === 'DELETED'
}
