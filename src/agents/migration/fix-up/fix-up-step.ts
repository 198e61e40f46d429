import type { ControlRequests } from '../../../transfer/control-protocol.ts'
import type { FileSystem } from '../file-systems.ts'
import type { GuestFiles } from './guest-files.ts'

export type FixUpRequest = ControlRequests['fixUp'][0]
export type FixUpNic = FixUpRequest['nics'][number]

/** The copied guest, mounted on the overlay: it doesn't run, and nobody else writes to it. */
export interface Guest {
  /** The kernel's name here, such as `vda`. */
  diskName: string
  /** Where its root is mounted. Only for what `files` can't do. */
  directory: string
  files: GuestFiles
  /** All that were found on the disk. */
  fileSystems: FileSystem[]
  rootFileSystem: FileSystem
  /** Runs a program of the guest inside it (chroot, with /dev, /proc and /sys). Rejects with one sentence. */
  run(program: string, args: string[], timeoutMs: number): Promise<string>
}

export interface FixUpOutcome {
  /** What was changed, one phrase each. Empty: the guest needed nothing. */
  changed: string[]
  /** What should have been changed and could not be, one sentence each. */
  couldNot?: string[]
  /** Said when nothing was changed. */
  otherwise: string
}

/**
 * One thing that a guest may need in its new place. It looks, changes only what has to change, and changes nothing the second time. What it throws is reported as
 * "could not", and the others go on: the health check decides whether the guest needed it. A TransferError alone ends the fix-up, and with it this try to switch over:
 * for what the operator asked for, where going on without would be wrong.
 */
export interface FixUpStep {
  name: string
  apply(guest: Guest, request: FixUpRequest): Promise<FixUpOutcome>
}
