/**
 * One VM as its directory tells it. `vm.json` is the truth about what was asked and done; the process table and QMP are the truth about what runs.
 *
 *   <stateDirectory>/machines/<vmId>/
 *     vm.json           this file's Machine
 *     disk-N.raw        the disk, sparse
 *     received-N.qcow2  while the VM is adopted: what was received, above disk-N.raw, which stays as it was
 *     overlay-N.qcow2   what was written since the disks were sealed
 *     landing/          kernel, base-initrd, and initrd (the base with one-time secrets, 0600)
 *     qmp.sock          for changes, under the VM's lock; status.sock for questions
 *     qemu.pid          held locked by the QEMU that runs, so there is never a second one
 *     serial.log        the guest's console; qemu.log: what QEMU said
 */
export interface Machine {
  version: 1
  /** Also the SMBIOS UUID. */
  vmId: string
  /** Data only: never part of a path or of an argument. */
  name: string
  cpuCount: number
  memoryBytes: number
  disks: MachineDisk[]
  nics: { index: number; mac: string }[]
  /** Guest TCP port to port of this machine; kept over restarts where still free. */
  forwards: Forward[]
  boot: 'LANDING' | 'DISK'
  /** False only once the guest may have been put on its network. */
  isolated: boolean
  landing: { commandLine: string; memoryBytes: number } | null
  /** Set while an overlay is being merged: whether the guest is to run on afterwards. */
  flattening: { resumeAfter: boolean } | null
  /** Set while a test's VM runs on the copied disks: see test-boot.ts. */
  test: { testId: string } | null
  /** A test's VM has the copied disks of this one below its overlays. */
  testOf: string | null
  /** While the VM is adopted: what giving it back restores. See adopt.ts. */
  adopted: { fence: Machine['fence']; forwards: Forward[] } | null
  /** The call that made this VM. */
  createdBy: string
  /** The call whose injected files are in the landing initrd: one-time secrets, so a repeat of that call must not boot them a second time. */
  landedBy: string | null
  /** Armed from the moment it is here: nothing starts the VM. `fenced`: nor is it resumed. */
  fence: { fenceId: string; fenced: boolean } | null
  /** Calls that are done, by operation id. */
  operations: Record<string, string>
}

export interface MachineDisk {
  index: number
  sizeBytes: number
  /** Where the raw file is: see storages.ts. */
  storageId: string
  /** True when the guest writes to overlay-N.qcow2. */
  sealed: boolean
}

export interface Forward {
  guestPort: number
  hostPort: number
}

export const diskFile = (index: number) => `disk-${index}.raw`
export const receivedFile = (index: number) => `received-${index}.qcow2`
export const overlayFile = (index: number) => `overlay-${index}.qcow2`

/** What holds the copied bytes of a disk: its raw file, or, while the VM is adopted, the overlay above that. */
export function copiedFile({ adopted }: Pick<Machine, 'adopted'>, index: number): { name: string; format: 'raw' | 'qcow2' } {
  return adopted ? { name: receivedFile(index), format: 'qcow2' } : { name: diskFile(index), format: 'raw' }
}

/** Relative to the VM's directory. */
export const landingFiles = {
  directory: 'landing',
  kernel: 'landing/kernel',
  baseInitrd: 'landing/base-initrd',
  initrd: 'landing/initrd',
} as const

/** The one network, of QEMU's user mode: every NIC sees this subnet with itself at .15 and this machine's loopback at .2. */
export const userNetwork = {
  id: 'user-mode',
  name: 'User mode',
  cidr: '10.0.2.0/24',
  guestAddress: '10.0.2.15',
  hostAddress: '10.0.2.2',
} as const

/** SSH is always forwarded: the migration agent is installed through it. */
export const sshPort = 22
