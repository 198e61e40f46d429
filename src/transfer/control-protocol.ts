/**
 * The control channel between the control plane and a migration agent: one JSON object a line over TLS 1.3, dialled by the agent.
 *
 * Enrolment (first connection, server authenticated by the pinned migration CA, SNI = `<migrationId>.migration.portolan.internal`):
 *   agent  -> {"enrol": {token, role, publicKeyPem}}          the key pair was born in the guest
 *   server -> {"certificate": {certificatePem}} or {"refused": {code, message}}
 * The agent closes, dials again with its certificate (mutual TLS), and sends `hello`. It redials for ever, with back-off of at most 2 s, until told to exit.
 *   agent  -> {"hello": AgentHello}
 *   server -> {"request": {id, method, params}}
 *   agent  -> {"response": {id, result}} or {"response": {id, error: {code, message, retryable}}}
 *   agent  -> {"progress": RoundProgress}     at most 4 a second, and at least one in 2 s while a round runs
 * A request sent again (same id or same natural key, such as the round's number) is answered as the first time, or joins the one that runs.
 * No check here: validation of each message is in control-messages.ts.
 */
export const controlProtocol = { major: 1, minor: 1 } as const

/** In injected file `/etc/portolan/bootstrap.json` (landing image) or `bootstrap.json` beside the agent (source). */
export interface AgentBootstrap {
  migrationId: string
  role: AgentRole
  /** Where the control plane's agent listener answers, in order of preference. */
  controlPlane: { host: string; port: number }[]
  serverName: string
  /** The certificate authority made for this migration, PEM. */
  caCertificatePem: string
  /** Works once, for one public key. */
  enrolmentToken: string
}

export type AgentRole = 'SOURCE' | 'DESTINATION'

export interface AgentDisk {
  /** Kernel name such as `vda`. */
  name: string
  sizeBytes: number
  /** Virtio serial, or null. */
  serial: string | null
  /** Mounted file systems that live on it, innermost first. */
  mounts: { path: string; fsType: string; device: string; readOnly: boolean }[]
  /** True for the disk that holds the root file system. */
  root: boolean
  swap: boolean
}

export interface AgentHello {
  protocol: { major: number; minor: number }
  role: AgentRole
  migrationId: string
  /** New at every start of the agent's process: another value means that tracked changes were lost. */
  agentInstanceId: string
  bootId: string
  architecture: string
  kernelRelease: string
  /** Such as `glibc 2.36`. */
  libc: string
  memoryTotalBytes: number
  memoryAvailableBytes: number
  disks: AgentDisk[]
}

export type TrackingMode = 'TRACEFS' | 'RESCAN'

/** FULL: compare every block with the destination's. CHANGED: blocks that tracking saw. The agent answers FULL work on its own when tracking lost events. */
export type RoundMode = 'FULL' | 'CHANGED'

export type Bottleneck = 'SOURCE_DISK' | 'SOURCE_CPU' | 'LINK' | 'DESTINATION_DISK' | 'DESTINATION_CPU' | 'BANDWIDTH_LIMIT'

export interface RoundProgress {
  round: number
  /** Bytes of the disk looked at so far in this round, and how many this round will look at. */
  scannedBytes: number
  totalBytes: number
  /** Blocks found different, in bytes (64 KiB grain). */
  changedBytes: number
  /** On the wire, both directions, all of it, this round. */
  bytesSent: number
  /** Bytes that the destination re-read from its disk and whose hash matched. */
  verifiedBytes: number
  /** Of the disk, over the last seconds. */
  rateBytesPerSecond: number
  /** Of this round. */
  etaMs: number | null
  /** What held it up most over the last seconds, by measured waiting. */
  bottleneck: Bottleneck | null
  /** How fast the guest changes the disk (64 KiB grain), over the last seconds; null where changes aren't tracked, or nothing was measured yet. */
  changeRateBytesPerSecond: number | null
  /** What a round that leaves directories out begins with: names found there so far, and each file once more when it is known where it lies. Absent where there are none. */
  lookedUpFiles?: number | undefined
}

export interface RoundResult {
  round: number
  mode: RoundMode
  changedBytes: number
  bytesSent: number
  verifiedBytes: number
  durationMs: number
  /** Changed since, and so what the next round sends, in bytes. */
  pendingBytes: number
  /** The source agent's estimate for sending and verifying pendingBytes. */
  estimatedTransferMs: number
  estimatedVerifyMs: number
  /** True when events were lost (overrun), so the next round is FULL. */
  rescanNeeded: boolean
  /** How fast the last rounds that were long enough to tell copied; null before the first. */
  rateBytesPerSecond?: number | null | undefined
  /** As in the progress. */
  changeRateBytesPerSecond?: number | null | undefined
  /** Left out of this round since they hold nothing but data of excluded files. Absent where nothing was asked to be left out. */
  excludedBytes?: number | undefined
  /** Where the excluded directories lay when this round began: those that the destination has to empty. */
  excluded?: ExcludedPlace[] | undefined
}

/** A directory on the copied disk. */
export interface ExcludedPlace {
  /** The partition's number; null for a file system on the whole disk. */
  partition: number | null
  /** From the file system's root, beginning with a slash. */
  path: string
}

/** How an interface of the copy gets its addresses; absent: as the guest is configured. `address` has a prefix length. */
export type NicAddressing = { mode: 'DHCP' } | { mode: 'STATIC'; address: string; gateway: string | null; dnsServers: string[] }

/** Requests by method: [params, result]. */
export interface ControlRequests {
  /** Both. Destination listens on guest port `listenPort`; the source dials `endpoints` in order; `relay` last, for both. */
  'transfer.connect': [
    {
      listenPort?: number
      endpoints?: { host: string; port: number }[]
      relay?: { host: string; port: number; token: string }
      timeoutMs: number
    },
    { via: 'DIRECT' | 'RELAY' },
  ]
  /**
   * Source. Begins change tracking and proves it with a canary write and a canary zero-out on a scratch file of the disk's file system. Absolute paths of directories
   * whose files' data is not to be copied; one that can't be left out is refused with INVALID_REQUEST.
   */
  'tracking.start': [{ disk: string; excludedDirectories?: string[] }, { mode: TrackingMode; reason: string | null }]
  /** Destination. Which block device (by serial) receives. Reads the disk when it isn't known to be empty. */
  'receive.start': [{ disk: string; empty: boolean }, Record<string, never>]
  /** Source. Runs to the end of the round, verification at the destination included. */
  'round.run': [{ round: number; mode: RoundMode }, RoundResult]
  /** Source. What may go over the wire to the destination from now on, all of it together; null: no limit. */
  'bandwidth.set': [{ limitBytesPerSecond: number | null }, Record<string, never>]
  /** Source. Stops the round at a block boundary; the data path is idle when this returns. */
  'round.stop': [Record<string, never>, Record<string, never>]
  /** Source. fsfreeze of every file system on the disk, innermost first, under a watchdog that thaws when the lease lapses. */
  freeze: [{ freezeId: string; leaseMs: number }, { frozen: string[]; freezeMs: number }]
  /** Source. `held: false` means that the freeze was void at some moment, or that the disk was written to after a round under it had left nothing: the attempt can't commit. */
  'freeze.renew': [{ freezeId: string; leaseMs: number }, { held: boolean }]
  thaw: [{ freezeId: string }, { held: boolean }]
  /** Both. Root of the hash tree over the whole disk, lower-case hex; the destination's comes from what it re-read. */
  root: [Record<string, never>, { root: string; blocks: number }]
  /** Destination, after the roots matched and the disks were sealed. */
  fixUp: [
    {
      nics: { mac: string; name: string; addressing?: NicAddressing }[]
      /** What the kernel called the disk at the source, such as `sda`. */
      sourceDisk?: string
      empty?: ExcludedPlace[]
    },
    /** `couldNot`: what the guest may miss in its new place, as sentences. */
    { steps: { step: string; changed: boolean; detail: string; couldNot?: string | undefined }[] },
  ]
  /** Source: interface names as the guest has them now, for fixUp. */
  interfaces: [Record<string, never>, { nics: { mac: string; name: string }[] }]
  /**
   * Source. Runs a command of the operator's to its end, or its time-out; no shell. `exitCode` is null when it was killed. `output` is the end of what it wrote to both of
   * its outputs, at most 16 KiB. Sent again with the same id it is not run again.
   */
  'hook.run': [
    { hookId: string; command: string[]; timeoutMs: number; environment: Record<string, string> },
    { exitCode: number | null; timedOut: boolean; output: string; outputBytes: number },
  ]
  /** Ends the agent; on the source it removes its own tmpfs too. Nothing is answered after it. */
  exit: [Record<string, never>, Record<string, never>]
}
export type ControlMethod = keyof ControlRequests
