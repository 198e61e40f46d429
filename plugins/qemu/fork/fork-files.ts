/**
 * Where forking keeps what it knows.
 *
 *   <stateDirectory>/parents/<parentId>/
 *     parent.json                     this file's Parent
 *     kernel, initrd                  until it is saved
 *     disk.raw, ram, devices          once it is saved, 0440: the disk, the guest's memory, and the state of all else
 *     overlay.qcow2                   an empty one, which each child gets a copy of
 *     open-read-only.so               see open-read-only.ts
 *     qemu.log, serial.log            what its QEMU said, and its guest
 *     run/                            where its QEMU runs, and all that its account may write
 *     children/<childId>/
 *       child.json, qemu.log          this file's Child
 *       run/                          where the child's QEMU runs: overlay.qcow2, channel.sock, qmp.sock
 *
 * A VM's account owns its `run`, 0700, and nothing else. The directories between are 0711, and the state directory, which that account can't enter, is above them.
 */
import type { ChildLimits } from '../../../src/plugin-sdk/index.ts'
import type { QemuProcess } from '../qemu-process.ts'
import type { ForkHardware } from './fork-command-line.ts'

export interface Parent {
  version: 1
  parentId: string
  hardware: ForkHardware
  diskBytes: number
  /** BOOTING until the state of its devices is whole on disk; ENDING until everything else is. */
  state: 'BOOTING' | 'ENDING' | 'SAVED'
  /** When it was stopped, from then on. */
  stoppedAt: string | null
  saved: { savedAt: string; saveMs: number; ramSha256: string; diskSha256: string } | null
}

export interface Child {
  version: 1
  childId: string
  parentId: string
  limits: ChildLimits
  /** Asked to stand still, and not resumed since. */
  paused: boolean
  mac: string
  startedAt: string
  /** False until it was seen to run (or stand still, where that was asked). */
  forked: boolean
  process: QemuProcess | null
}

/** In a parent's directory. */
export const parentFiles = {
  record: 'parent.json',
  kernel: 'kernel',
  initrd: 'initrd',
  disk: 'disk.raw',
  ram: 'ram',
  devices: 'devices',
  overlay: 'overlay.qcow2',
  openReadOnly: 'open-read-only.so',
  console: 'serial.log',
  log: 'qemu.log',
  run: 'run',
  children: 'children',
} as const

/** In a child's directory. */
export const childFiles = { record: 'child.json', log: 'qemu.log', run: 'run' } as const

/** Where a QEMU runs. */
export const runFiles = { channel: 'channel.sock', control: 'qmp.sock', overlay: 'overlay.qcow2' } as const
