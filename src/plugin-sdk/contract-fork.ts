/**
 * Forking: a VM that was warmed up once is saved as it runs, and children start from that state in about a tenth of a second, with copy-on-write memory and disk.
 *
 *   bootParent --> (warmed by the caller, over its channel) --> saveParent --> forkChild ... deleteChild --> deleteParent
 *
 * Ids of parents and children are the caller's: 1 to 64 letters, digits, dots, dashes, underscores, beginning with neither a dot nor a dash. The same id again is the same VM, whatever
 * the operation. All of it is found again, after a crash of the plugin, in the cloud itself.
 */
import type { Operation, Query } from './contract.ts'

/** Local paths. */
export interface ParentImage {
  kernelPath: string
  initrdPath: string
  commandLine: string
  /** Raw. Copied by the plugin, never changed. The guest's first virtio disk. */
  diskPath: string
}

/** How this machine speaks with the guest. */
export interface GuestChannel {
  /**
   * A Unix socket of this machine: the guest's virtio-serial port `org.portolan.child`, raw bytes both ways. One connection at a time, a new one after the old one ended.
   * While nobody is connected the guest reads an end of file there, which isn't the last word: it tries again, and not too often, since its idling costs CPU.
   */
  path: string
}

/** SHA-256 in lower-case hex. */
export interface ParentHashes {
  ramSha256: string
  diskSha256: string
}

export interface SavedParent extends ParentHashes {
  parentId: string
  /** RAM as the guest sees it. */
  memoryBytes: number
  /** Size of the file that holds it. */
  ramFileBytes: number
  diskBytes: number
  /** ISO 8601, UTC. */
  savedAt: string
  /** From the stop of its vCPUs to the end of its process. */
  saveMs: number
  childCount: number
}

/** Enforced from outside of the guest. */
export interface ChildLimits {
  /** Most resident memory of the child's process, what it shares with its parent's file included only where it touched that first. */
  memoryBytes: number
  /** 1 is one core. */
  cpuShare: number
  /** Most that it may write to its disk; beyond that its writes fail. */
  diskBytes: number
  /** `NONE`: its NIC is connected to nothing. A network must be one of the capability's `networkIds`. */
  network: 'NONE' | { networkId: string }
  /** Of real time, from the fork; then the child ends, whether or not the plugin lives. */
  maxLifetimeMs: number
}

export interface ChildDescription {
  childId: string
  parentId: string
  /** ENDED: its process is gone (killed, out of memory, out of time), and what it left waits for deleteChild. */
  state: 'RUNNING' | 'PAUSED' | 'ENDED'
  /** Proportional set size of its process: pages that it shares count as their share. */
  memoryBytes: number
  pid?: number
  /** ISO 8601, UTC. */
  startedAt: string
}

export interface ForkCapacity {
  /** How many more children fit now, were each to use all of its memory. */
  children: number
  freeMemoryBytes: number
  perChildBytes: number
  /** What bounds it: one sentence. */
  reason: string
}

export interface ForkCapability {
  /** What this site enforces on children, from outside the guest. */
  isolation: {
    /** Each child's process has an account of its own, that owns nothing else. */
    unprivilegedUser: boolean
    /** System calls that a VM doesn't need are refused to the process. */
    sandbox: boolean
    /** What enforces memory and CPU; absent where nothing does. */
    cgroup?: 'V1' | 'V2'
  }
  /** The networks that a child can be given; none: `NONE` is all there is. */
  networkIds: string[]
  /** Boots a parent, and answers as soon as it runs: the caller speaks with it over the channel until it is warm. One that isn't saved within an hour ends. */
  bootParent(
    operation: Operation & { parentId: string; image: ParentImage; memoryBytes: number; cpuCount: number },
  ): Promise<{ channel: GuestChannel }>
  /** Stops it, saves memory, devices and disk, ends its process and makes the files read-only. CONFLICT where it ended before it was saved. */
  saveParent(operation: Operation & { parentId: string }): Promise<SavedParent>
  /** The saved ones. */
  describeParents(query: Query): Promise<SavedParent[]>
  /** Reads the saved files again: the hashes are those of describeParents, unless something has changed the files. About a second a gigabyte. */
  hashParent(query: Query & { parentId: string }): Promise<ParentHashes>
  /** Undo of both. Deleting what does not exist is a success; CONFLICT while it has children. */
  deleteParent(operation: Operation & { parentId: string }): Promise<void>
  capacity(query: Query & { parentId: string }): Promise<ForkCapacity>
  /**
   * A child in the state in which its parent was saved. `paused`: its vCPUs stand still until resumeChild. The guest still has its parent's identity (name, MAC, clock, random
   * state): the caller gives it another one over the channel. `mac` is for its NIC. INSUFFICIENT_CAPACITY where this host has too little memory.
   */
  forkChild(
    operation: Operation & { parentId: string; childId: string; limits: ChildLimits; paused: boolean },
  ): Promise<{ channel: GuestChannel; mac: string | null }>
  /** Resuming one that runs is a success. */
  resumeChild(operation: Operation & { childId: string }): Promise<void>
  /** All of this site, half-made ones included. */
  listChildren(query: Query): Promise<ChildDescription[]>
  /** Ends it, and removes all that it left. Deleting what does not exist is a success. */
  deleteChild(operation: Operation & { childId: string }): Promise<void>
}
