/**
 * The provider contract, version 1.
 *
 * A plugin is a function of its options that gives a plain object. What a provider can't do is an absent member, which the API shows
 * as an absent capability. Every plugin runs in a child process of its own, so all that crosses is structured-clonable
 * (except `signal` and `log`, which the plugin's process provides on its side).
 *
 * Every call that changes something takes an `operationId`; sent twice it happens once and answers the second time as the first: the id is
 * found again in the cloud (tag, metadata, file), never only in memory. Sizes are bytes, durations milliseconds.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { ForkCapability } from './contract-fork.ts'

export const contractVersion = { major: 1, minor: 4 } as const

export interface Plugin<Options = unknown> {
  /** Stable id, lower case, such as `qemu`. */
  id: string
  apiVersion: { major: number; minor: number }
  /** Any Standard Schema. An unknown option must be refused. */
  options: StandardSchemaV1<unknown, Options>
  connect(options: Options, context: ConnectContext): Promise<ProviderConnection>
}

export interface ConnectContext {
  /**
   * The site was connected before, as at every start of the control plane and after every crash of the plugin. Where what it is known by is missing then (a file system
   * that isn't mounted), connecting throws UNREACHABLE: a site that is made anew in its place would say that no VM and no record is there.
   */
  known?: boolean
  signal: AbortSignal
  log: PluginLog
}

export type PluginLog = (level: 'debug' | 'info' | 'warn' | 'error', message: string, fields?: Record<string, unknown>) => void

/** What every changing call takes. */
export interface Operation {
  operationId: string
  signal?: AbortSignal
}
export interface Query {
  signal?: AbortSignal
}

export type PowerState = 'RUNNING' | 'SUSPENDED' | 'STOPPED' | 'UNKNOWN'

export interface DiskDescription {
  /** The provider's id of the disk. */
  id: string
  /** Position as the guest sees it, from 0. */
  index: number
  sizeBytes: number
  bus: 'virtio' | 'scsi' | 'sata' | 'nvme' | 'ide'
  /** Which of its host's storages it is on, where the provider has several. */
  storageId?: string
  /** A path or volume that a tool outside the guest can compare, where there is one (tests do). */
  backingPath?: string
}

export interface NicDescription {
  id: string
  index: number
  /** Lower case, colon separated. */
  mac: string
  networkId: string
  addresses: string[]
}

export interface VirtualMachineDescription {
  /** The provider's id. */
  id: string
  /** Immutable and unique over all clouds (SMBIOS UUID, lower case). VMs are matched on it, never on a name. */
  uniqueId: string
  name: string
  power: PowerState
  hostId: string
  architecture: 'x86_64' | 'aarch64'
  firmware: 'BIOS' | 'UEFI'
  cpuCount: number
  memoryBytes: number
  disks: DiskDescription[]
  nics: NicDescription[]
  /** Guest TCP ports that are reached elsewhere than at a NIC's address: the provider's port forwards, floating addresses, load balancers. */
  endpoints?: { guestPort: number; host: string; port: number }[]
}

export interface Topology {
  regions: { id: string; name: string; zones: { id: string; name: string; hosts: HostDescription[] }[] }[]
  networks: NetworkDescription[]
  virtualMachines: VirtualMachineDescription[]
}

export interface NetworkDescription {
  id: string
  name: string
  subnets: { id: string; name: string; cidr: string }[]
  /** Address under which guests on this network reach the machine where the plugin runs (the gateway's, say); null or absent when they can't. A landing image dials it. */
  controlPlaneFromGuest?: string | null
}

export interface HostDescription {
  id: string
  name: string
  architecture: 'x86_64' | 'aarch64'
  cpuCount: number
  memoryBytes: number
  /** Free room for new disks, as far as the provider tells. */
  freeDiskBytes?: number
  freeMemoryBytes?: number
  /** Where new disks can be put; absent where there is one place only. */
  storages?: StorageDescription[]
}

/** A place for disks: a pool, a datastore, a volume type. Its id is the same on every host that has it. */
export interface StorageDescription {
  id: string
  name: string
  /** As far as the provider tells. */
  freeBytes?: number
}

/** A kernel and an initramfs, all in RAM, with Node and the migration agent: what a destination runs while disks are filled. Local paths. */
export interface LandingImage {
  kernelPath: string
  initrdPath: string
  commandLine: string
  /** What a VM needs at least to run it. */
  memoryBytes: number
}

/** A file that the provider puts into a guest before the agent starts. Holds one-time secrets: never logged, never in a name or argument. */
export interface InjectedFile {
  /** Absolute path in the guest, such as `/etc/portolan/bootstrap.json`. */
  path: string
  content: string
  mode: number
}

export interface NewVirtualMachine {
  name: string
  uniqueId: string
  cpuCount: number
  memoryBytes: number
  firmware: 'BIOS'
  /** Without `storageId` a disk goes where the provider puts new ones; an unknown storage is refused with NOT_FOUND. */
  disks: { index: number; sizeBytes: number; storageId?: string }[]
  nics: { index: number; mac: string; networkId: string }[]
}

export interface InstantiateRequest extends Operation {
  virtualMachine: NewVirtualMachine
  landing: LandingImage
  /** Appended to the initramfs as a cpio archive of its own (see landing-initrd.ts). */
  inject: InjectedFile[]
  /** TCP ports of the guest that `reachability` is to answer for later. */
  inboundPorts: number[]
}

export interface AdoptRequest extends Operation {
  vmId: string
  /** The fence that the VM may have: it is set aside for as long as the VM is adopted. Null: it is to have none. */
  fenceId: string | null
  landing: LandingImage
  /** As in `InstantiateRequest`. */
  inject: InjectedFile[]
  inboundPorts: number[]
}

export interface Endpoint {
  host: string
  port: number
}

export interface Reachability {
  /** Where this machine reaches the guest's TCP port; null when it can't. */
  fromControlPlane: Endpoint | null
  /** Under which address the guest reaches this machine (its loopback or the network's gateway); null when it can't. */
  controlPlaneFromGuest: string | null
}

/** How the SDK's SSH installer logs in. */
export interface SshAccess {
  endpoint: Endpoint
  user: string
  privateKey: string
  /** Public host keys, OpenSSH format. From the provider or the operator: there is no trust on first use. */
  hostKeys: string[]
}

export interface AgentInstallRequest extends Operation {
  vmId: string
  /** The directory with `agent.mjs`, `node` and libraries (see installers/ssh.ts). */
  bundleDirectory: string
  /** Files put beside the agent on its tmpfs. */
  inject: InjectedFile[]
}

/** Shown to the operator as it is. `BLOCKER`: installing would fail. */
export interface GuestFinding {
  /** Such as `NO_TRACEFS`. */
  code: string
  severity: 'BLOCKER' | 'WARNING' | 'INFORMATION'
  message: string
  remedy: string
}

export interface SiteRecord {
  /** Unique within the site. Putting it again with the same content is a no-op; with other content a CONFLICT. */
  key: string
  /** ISO 8601, UTC. */
  writtenAt: string
  content: Record<string, string | number | boolean | null>
}

export interface FenceState {
  /** Whose fence it is; null where none is armed. */
  fenceId: string | null
  /** Nothing starts the VM anew: not its host's reboot, not its autostart, not `start`. */
  armed: boolean
  /** Armed, and the VM neither runs nor can be resumed. */
  fenced: boolean
  power: PowerState
}

export interface ProviderConnection {
  discoverTopology(query: Query): Promise<Topology>
  virtualMachines: {
    /** Throws NOT_FOUND only when the provider answered that it does not exist. A provider that can't be asked throws UNREACHABLE. */
    describe(query: Query & { vmId: string }): Promise<VirtualMachineDescription>
    start(operation: Operation & { vmId: string }): Promise<void>
    /** `force` pulls the plug; otherwise the guest is asked and the call ends when it is off. */
    stop(operation: Operation & { vmId: string; force: boolean }): Promise<void>
    /** vCPUs stop; memory stays. Idempotent. */
    suspend(operation: Operation & { vmId: string }): Promise<void>
    resume(operation: Operation & { vmId: string }): Promise<void>
    /** Optional: an ordinary VM from a disk image (raw, local path), for demos and tests. */
    create?(
      operation: Operation & { virtualMachine: NewVirtualMachine; imagePath: string; inboundPorts: number[] },
    ): Promise<{ vmId: string }>
    /** Optional: undo of create. Deleting what does not exist is a success. */
    delete?(operation: Operation & { vmId: string }): Promise<void>
    /** Optional: the newest of what the guest wrote to its serial console, at most 64 KiB, as text. Empty where it wrote nothing. */
    console?(query: Query & { vmId: string }): Promise<{ text: string }>
    /**
     * Optional: names that this provider takes, so that pre-flight can refuse the others. `pattern` matches the whole name (JavaScript's, with the flags s and u); `says`
     * completes "A name ..."; `unique`: no two VMs have the same.
     */
    nameRule?: { pattern: string; maxBytes: number; says: string; unique?: boolean }
  }
  destination: {
    /** Creates the VM with empty (all zero) disks and boots the landing image. Disk N shows serial `portolan-disk-N` in the guest. */
    instantiate(request: InstantiateRequest): Promise<{ vmId: string }>
    /** From now on the guest's writes go to an overlay; the copied disks stay as they were verified. Called while the landing image runs. */
    sealCopiedDisks(operation: Operation & { vmId: string }): Promise<void>
    /** Powers off the landing image and boots from the (overlaid) copied disk, isolated: see network.isolate. */
    bootFromCopiedDisk(operation: Operation & { vmId: string }): Promise<void>
    /**
     * Drops what was written since sealCopiedDisks, if anything was sealed, and boots the landing image again, with other injected files. The copied disks stay as
     * they are. Also for a VM that is stopped: the way back from a failed boot, and how a kept copy is taken up again. CONFLICT once it was exposed: what was written
     * since is the live machine's, whatever a control plane that was restored from a backup believes.
     */
    discardOverlay(operation: Operation & { vmId: string; inject: InjectedFile[] }): Promise<void>
    /** Merges the overlay into the copied disks, live, and forgets the landing image. After the commit only. */
    flattenOverlay(operation: Operation & { vmId: string }): Promise<void>
    /** Undo of instantiate: VM, disks, overlays, landing files. Deleting what does not exist is a success. */
    delete(operation: Operation & { vmId: string }): Promise<void>
    /** Optional: boots what has been copied so far in a VM of its own, while the landing image runs and goes on receiving. */
    testBoot?: {
      /**
       * An isolated VM (see network.isolate) with a unique id and MACs of its own, on an overlay over the copied disks as they are at the call. What the landing image
       * receives meanwhile is kept apart from it.
       */
      start(operation: Operation & { vmId: string; testId: string; inboundPorts: number[] }): Promise<{ vmId: string }>
      /** Removes the test's VM and its overlay; what was received meanwhile goes into the copied disks. Removing what does not exist is a success. */
      remove(operation: Operation & { vmId: string; testId: string }): Promise<void>
    }
    /**
     * Optional: a VM that is there already, and off, becomes a destination, so that what was written elsewhere since is carried back to it. Its own disks keep every byte
     * until flattenOverlay: what the landing image receives goes to overlays above them, and these are the copied disks for all other steps.
     */
    adopt?: {
      /** Boots the landing image over the VM's disks. CONFLICT where the VM is not off, is a destination already, or has a fence other than `fenceId`; then it is as it was. */
      start(request: AdoptRequest): Promise<void>
      /**
       * Undo of `start`: powers it off and drops all that was received. Disks, definition and fence are as `start` found them. A success without effect for a VM that is not
       * adopted (any more); CONFLICT for one that was exposed.
       */
      giveBack(operation: Operation & { vmId: string }): Promise<void>
    }
  }
  network: {
    /** The VM can be health-checked from this machine, and reaches and is reached by nothing else. */
    isolate(operation: Operation & { vmId: string }): Promise<void>
    /**
     * Puts the VM on the networks of its NICs. With `completedEventKey` only where this site's records hold that key, and not for a `decision` other than COMMITTED; CONFLICT
     * otherwise (the SDK's requireCompletedEvent). A copy never goes live without the durable event that says so. What is exposed stays so over a power cut and `start`.
     */
    expose(operation: Operation & { vmId: string; completedEventKey?: string }): Promise<void>
    reachability(query: Query & { vmId: string; guestPort: number }): Promise<Reachability>
    /**
     * Optional: why no isolated VM of this site can be health-checked from this machine after all. Pre-flight refuses the site as a destination with it, rather than let the
     * check fail while the service stands still. Completes "An isolated machine there ...".
     */
    isolationFault?: string
  }
  migrationAgent: {
    install(request: AgentInstallRequest): Promise<void>
    /**
     * Optional: what would keep the agent from working in that guest, changing nothing. An empty list: nothing was found. Throws only where the guest can't be
     * looked at (UNREACHABLE, UNAUTHORIZED, INVALID_OPTIONS).
     */
    inspect?(query: Query & { vmId: string; bundleDirectory: string }): Promise<GuestFinding[]>
    /** Removes every trace of install, also of an interrupted one. */
    uninstall(operation: Operation & { vmId: string }): Promise<void>
  }
  copyGuestData: { method: 'agent-to-agent' }
  /** Optional: keeps a VM from running, durably at this site. */
  fencing?: {
    /** What enforces it: the machine's power, a lock of the host that its provider honours, or one inside the guest. */
    strength: 'power' | 'host-lock' | 'guest-lock'
    /** Durable when it returns, over the host's reboot: from now on nothing starts the VM anew. A VM that runs, or is suspended, goes on as it is. CONFLICT where another fenceId is armed. */
    arm(operation: Operation & { vmId: string; fenceId: string }): Promise<void>
    /** Arms where it isn't, and ends the VM's running: a suspended one stays suspended, with its memory, and can't be resumed; any other is powered off. */
    fence(operation: Operation & { vmId: string; fenceId: string }): Promise<void>
    /** Throws what describe throws. */
    confirm(query: Query & { vmId: string }): Promise<FenceState>
    /** Takes fence and arming back, autostart included. It starts nothing. No fence, or another one's: a success without effect. */
    release(operation: Operation & { vmId: string; fenceId: string }): Promise<void>
  }
  /** Optional: children that start from a saved VM's state. */
  fork?: ForkCapability
  records: {
    /** Durable (fsynced) at this site when it returns; readable without the other site. */
    put(operation: Operation & { record: SiteRecord }): Promise<void>
    list(query: Query & { keyPrefix: string }): Promise<SiteRecord[]>
  }
  close(): Promise<void>
}

/** For `copyGuestData`: the SDK's migration agents copy from guest to guest, and the plugin does nothing. */
export const agentToAgentCopy = { method: 'agent-to-agent' } as const

/** Checks the shape at compile time and returns its argument. */
export function definePlugin<Options>(plugin: Plugin<Options>): Plugin<Options> {
  return plugin
}
