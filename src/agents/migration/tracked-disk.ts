import { join } from 'node:path'
import { diskGeometry } from '../../transfer/block-grain.ts'
import type { AgentDisk } from '../../transfer/control-protocol.ts'
import { TransferError } from '../../transfer/transfer-error.ts'
import { deviceNumberOf, findDisk, sizeOf } from './block-devices.ts'
import { createChangeTracker, type ChangeTracker } from './change-tracker.ts'
import { openDiskDevice } from './disk-device.ts'
import { createExcludedDirectories, type ExcludedDirectories } from './excluded-directories.ts'
import { createSourceDisk, type SourceDisk } from './source-disk.ts'
import { findTracefs } from './tracefs-mount.ts'
import { guardTracing } from './tracing-guard.ts'
import { proveTracking } from './tracking-proof.ts'

/** The source's disk with the tracking of its changes; without a tracker every round compares everything, for the reason given. */
export interface TrackedDisk {
  disk: SourceDisk
  /** Innermost first. The guest may have mounted more since tracking began. */
  mountsNow(): Promise<AgentDisk['mounts']>
  /** Throws TransferError DISK_SIZE_CHANGED: what was copied and what is compared is of the size that the disk had when tracking began. */
  checkSize(): Promise<void>
  tracker: ChangeTracker | null
  reason: string | null
  /** Null where nothing is to be left out. */
  excludedDirectories: ExcludedDirectories | null
  close(): Promise<void>
}

export interface TrackingOptions {
  /** The kernel's, such as `vda`. */
  name: string
  migrationId: string
  /** On tmpfs; the agent's own. */
  directory: string
  excludedDirectories: readonly string[]
}

/** Throws TransferError UNKNOWN_DISK, DISK_READ_FAILED, and INVALID_REQUEST for a directory that can't be left out. */
export async function startTracking({ name, migrationId, directory, excludedDirectories }: TrackingOptions): Promise<TrackedDisk> {
  const description = await findDisk(name)
  if (!description) throw new TransferError('UNKNOWN_DISK', `The source has no disk ${JSON.stringify(name)}.`, { retryable: false })
  const geometry = diskGeometry(description.sizeBytes)
  const excluded =
    excludedDirectories.length === 0 ? null : createExcludedDirectories(description.name, geometry.blockCount, excludedDirectories)
  await excluded?.check()
  const device = await openDiskDevice(`/dev/${description.name}`, 'READ')
  const disk = createSourceDisk(device, description.sizeBytes)
  const { tracker, reason, release } = await track(disk, description, migrationId, directory)
  return {
    disk,
    mountsNow: async () => (await findDisk(description.name))?.mounts ?? [],
    async checkSize() {
      const sizeBytes = await sizeOf(description.name)
      if (sizeBytes !== description.sizeBytes) throw sizeChanged(description, sizeBytes)
    },
    tracker,
    reason,
    excludedDirectories: excluded,
    async close() {
      await tracker?.close()
      await release()
      await device.close()
    },
  }
}

function sizeChanged({ name, sizeBytes }: AgentDisk, sizeBytesNow: number): TransferError {
  return new TransferError(
    'DISK_SIZE_CHANGED',
    `The source's disk ${name} had ${sizeBytes} bytes when the copy began, and has ${sizeBytesNow} now. Discard the copy, then start the migration anew: it copies the disk as it is now.`,
    { retryable: false },
  )
}

async function track(disk: SourceDisk, { name, mounts }: AgentDisk, migrationId: string, directory: string) {
  const untracked = (reason: string, release = async () => {}) => ({
    tracker: null,
    reason: `${reason}; every round compares the whole disk`,
    release,
  })
  const tracefs = await findTracefs(directory)
  if (!tracefs) return untracked("the source's kernel has no tracefs")
  const instance = `portolan-${migrationId.replaceAll(/[^A-Za-z0-9-]/g, '-').slice(0, 64)}`
  guardTracing(join(tracefs.path, 'instances', instance), tracefs.own ? tracefs.path : null)
  let tracker: ChangeTracker
  try {
    tracker = await createChangeTracker(tracefs.path, instance, await deviceNumberOf(name), disk.dirty, disk.geometry.blockCount)
  } catch (error) {
    return untracked(`change tracking can't be set up (${error instanceof Error ? error.message : String(error)})`, tracefs.release)
  }
  const writable = mounts.find((mount) => !mount.readOnly)
  const unproven = writable ? await proveTracking(tracker, disk.dirty, writable.path) : 'no file system of the disk is writable'
  if (unproven === null) return { tracker, reason: null, release: tracefs.release }
  await tracker.close()
  return untracked(unproven, tracefs.release)
}
