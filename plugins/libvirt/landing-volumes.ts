/** The landing image's kernel and initramfs as volumes of the pool, so that a remote libvirt boots them too. They live while the landing image does. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ProviderError, writeLandingInitrd, type InjectedFile } from '../../src/plugin-sdk/index.ts'
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
  const temporary = await mkdtemp(join(tmpdir(), 'portolan-landing-'))
  try {
    const initrd = join(temporary, 'initrd')
    await writeLandingInitrd(landing.initrdPath, inject, initrd).catch((error: unknown) => {
      throw error instanceof ProviderError ? error : unreadable(error)
    })
    await site.volumes.upload(names.landingInitrd, initrd, { signal })
    await site.volumes.upload(names.landingKernel, landing.kernelPath, { signal })
  } finally {
    // It holds one-time secrets.
    await rm(temporary, { recursive: true, force: true })
  }
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
