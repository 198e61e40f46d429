/** New VMs: an ordinary one from a disk image, or a destination that boots the landing image with empty disks. */
import { constants, copyFile, mkdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type InjectedFile,
  type LandingImage,
  type ProviderConnection,
  ProviderError,
  writeLandingInitrd,
} from '../../src/plugin-sdk/index.ts'
import { asCapacityError, requireRoom } from './capacity.ts'
import { syncPath } from './durable-file.ts'
import { launch } from './launch.ts'
import { diskFile, landingFiles, type Machine } from './machine.ts'
import { newMachine } from './new-machine.ts'
import { runTool } from './run-tool.ts'
import type { Site } from './site.ts'
import { sizeOf } from './size-of.ts'
import { placeDisk } from './storages.ts'

const imageCopyTimeoutMs = 30 * 60_000

type Create = NonNullable<ProviderConnection['virtualMachines']['create']>

/** Copies the image, sparse, or shared with it where the file system can. The VM is left powered off. */
export function createFromImage(site: Site): Create {
  return async (request) => {
    const machine = await newMachine(site, request, null)
    const imageBytes = await sizeOf(request.imagePath, ['imagePath'])
    const first = machine.disks[0]
    if (!first || imageBytes > first.sizeBytes)
      throw new ProviderError('UNSUPPORTED', `The image ${request.imagePath} has ${imageBytes} bytes and does not fit the first disk.`, {
        retryable: false,
        remedy: 'Give the first disk at least the size of the image. Nothing was changed.',
        path: ['virtualMachine', 'disks'],
      })
    await site.store.create('created', request, machine, {
      admit: () => requireRoom(site, machine, 0),
      async prepare(directory) {
        await makeEmptyDisks(site, machine, directory)
        const target = join(directory, diskFile(0))
        const copy = ['--sparse=always', '--reflink=auto', '--', request.imagePath, target]
        await runTool('cp', copy, { cwd: directory, signal: request.signal, timeoutMs: imageCopyTimeoutMs })
        await truncate(target, first.sizeBytes)
        await syncPath(target)
      },
      async act() {},
    })
    return { vmId: machine.vmId }
  }
}

/** Everything is on disk before QEMU starts, and a repeated call goes on from whatever the interrupted one left. */
export function instantiate(site: Site): ProviderConnection['destination']['instantiate'] {
  return async (request) => {
    const { commandLine, memoryBytes } = request.landing
    const machine = await newMachine(site, request, { commandLine, memoryBytes })
    const neededBytes = await landingBytes(request.landing)
    await site.store.create('instantiated', request, machine, {
      admit: () => requireRoom(site, machine, neededBytes),
      async prepare(directory) {
        try {
          await keepLandingImage(directory, request.landing)
          await injectIntoLanding(directory, request.inject)
          await makeEmptyDisks(site, machine, directory)
        } catch (error) {
          throw asCapacityError(error)
        }
        request.signal?.throwIfAborted()
      },
      async act(change) {
        await launch(site, change, request.signal)
      },
    })
    return { vmId: machine.vmId }
  }
}

/** Writes landing/initrd: the landing image's with one-time secrets appended, readable by the owner only. */
export async function injectIntoLanding(directory: string, inject: InjectedFile[]): Promise<void> {
  await writeLandingInitrd(join(directory, landingFiles.baseInitrd), inject, join(directory, landingFiles.initrd))
}

/** The initrd is there twice: as it came, for a way back, and with the secrets in it. */
export async function landingBytes({ kernelPath, initrdPath }: LandingImage): Promise<number> {
  return (await sizeOf(kernelPath, ['kernelPath'])) + 2 * (await sizeOf(initrdPath, ['initrdPath']))
}

/** On disk once this returns: the VM is written down as one that boots it. */
export async function keepLandingImage(directory: string, landing: LandingImage): Promise<void> {
  await mkdir(join(directory, landingFiles.directory), { mode: 0o700 })
  await copyFile(landing.kernelPath, join(directory, landingFiles.kernel), constants.COPYFILE_FICLONE)
  await copyFile(landing.initrdPath, join(directory, landingFiles.baseInitrd), constants.COPYFILE_FICLONE)
  for (const path of [landingFiles.kernel, landingFiles.baseInitrd, landingFiles.directory]) await syncPath(join(directory, path))
}

async function makeEmptyDisks({ options }: Site, { vmId, disks }: Machine, directory: string): Promise<void> {
  for (const disk of disks) {
    const path = await placeDisk(options, vmId, directory, disk)
    await writeFile(path, '', { mode: 0o600, flag: 'wx' })
    await truncate(path, disk.sizeBytes)
    await syncPath(path)
  }
}
