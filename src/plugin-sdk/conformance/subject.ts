import type { GuestChannel, ParentImage } from '../contract-fork.ts'
import type { InjectedFile, LandingImage } from '../contract.ts'

/** What a plugin's author gives the suite. What is absent is skipped, and reported as skipped. */
export interface ConformanceSubject {
  /** As in portolan.config.ts; paths from `directory`, or from the working directory. */
  plugin: string
  directory?: string
  /** Valid options, for a cloud (or a corner of one) that nothing else changes meanwhile. */
  options: Record<string, unknown>
  /** A raw disk image that boots by itself: for creating virtual machines, and for what is copied to a destination. Local path. */
  imagePath?: string
  /** The guest of `imagePath` answers this with 200 once it is up. */
  guestHttp?: { port: number; path: string; bootTimeoutMs: number }
  landing?: LandingImage
  /** Files for the landing image; by default a bootstrap that dials nobody. */
  inject?: InjectedFile[]
  /** RAM of the virtual machines made here. 512 MiB less 8 KiB by default. */
  memoryBytes?: number
  /** For `fork`: what children are forked from, and how to speak with it. Each of the functions connects, and hangs up when it is done. */
  parent?: {
    image: ParentImage
    memoryBytes: number
    cpuCount?: number
    /** Ends when the guest that boots is ready to be saved. */
    warmUp(channel: GuestChannel): Promise<void>
    /** Lets a child write to its memory and its disk, and ends when it has answered. */
    exercise(channel: GuestChannel): Promise<void>
    /** Local paths of what was saved, to be compared from outside, where there are such files. */
    savedFiles?(parentId: string): { ram: string; disk: string }
  }
  /** A well-formed id of a virtual machine that does not exist; a random UUID by default. */
  unknownVmId?: string
  /** What is left outside of the topology (files, processes, volumes), one name each: compared before and after. */
  leftovers?(): Promise<string[]>
  /** Undoes the set-up, after everything. */
  cleanUp?(): Promise<void>
}
