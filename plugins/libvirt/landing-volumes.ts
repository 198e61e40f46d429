/** The landing image's kernel and initramfs as volumes of the pool, so that a remote libvirt boots them too. They live while the landing image does. */
import { ProviderError, writeLandingInitrd, type InjectedFile, type LandingImage } from '../../src/plugin-sdk/index.ts'
import { namelessFile } from './client.ts'
import type { LandingBoot } from './domain-xml.ts'
import type { MachineMetadata } from './machine-metadata.ts'
import type { Site } from './site.ts'
import { volumeNames } from './volume-names.ts'

interface Machine {
  name: string
  uniqueId: string
}

export async function uploadLanding(
  site: Site,
  vm: Machine,
  landing: NonNullable<MachineMetadata['landing']>,
  inject: readonly InjectedFile[],
  signal?: AbortSignal,
): Promise<LandingBoot> {
  const names = volumeNames(vm)
  const directory = await site.volumes.directory(signal)
  // Nameless from the start, since it holds one-time secrets.
  const initrd = await namelessFile((path) => writeLandingInitrd(landing.initrdPath, inject, path)).catch((error: unknown) => {
    throw error instanceof ProviderError ? error : unreadable(error)
  })
  await site.volumes.upload(names.landingInitrd, initrd, { signal })
  await site.volumes.upload(names.landingKernel, landing.kernelPath, { signal })
  return {
    kernelPath: `${directory}/${names.landingKernel}`,
    initrdPath: `${directory}/${names.landingInitrd}`,
    commandLine: landing.commandLine,
  }
}

export async function deleteLanding(site: Site, vm: Machine, signal?: AbortSignal): Promise<void> {
  const names = volumeNames(vm)
  await site.volumes.delete(names.landingInitrd, signal)
  await site.volumes.delete(names.landingKernel, signal)
}

/** Throws INSUFFICIENT_CAPACITY for a VM whose memory is too small for the landing image. */
export function requireMemory(hasBytes: number, landing: LandingImage): void {
  if (hasBytes >= landing.memoryBytes) return
  throw new ProviderError(
    'INSUFFICIENT_CAPACITY',
    `The virtual machine has ${Math.floor(hasBytes / 1024)} KiB of memory, and the landing image needs ${Math.ceil(landing.memoryBytes / 1024)} KiB; nothing was changed.`,
    { retryable: false, remedy: 'Give the virtual machine more memory.', path: ['virtualMachine', 'memoryBytes'] },
  )
}

function unreadable(error: unknown): ProviderError {
  return new ProviderError(
    'INTERNAL',
    `The landing image could not be prepared: ${error instanceof Error ? error.message : String(error)}.`,
    {
      retryable: false,
      remedy: 'Run the set-up again so that the landing image is there, and check for room in the temporary directory.',
      cause: error,
    },
  )
}
