/** A state directory that is gone, such as a file system that isn't mounted, is a site that nobody can ask: never one without virtual machines and records. */
import { mkdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { ProviderError } from '../../src/plugin-sdk/index.ts'

/** Where the directories of virtual machines are. */
export const machinesOf = (stateDirectory: string) => join(stateDirectory, 'machines')

export const stateDirectoryOf = (machineDirectory: string) => dirname(dirname(machineDirectory))

/** Makes it where it never was. @throws ProviderError UNREACHABLE where something else is in its place. */
export async function makeStateDirectory(stateDirectory: string): Promise<void> {
  await mkdir(stateDirectory, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw isNoPath(error) ? gone(stateDirectory) : error
  })
}

/** Tells a file that is missing from a site that is: what `work` throws is UNREACHABLE where the state directory is gone. */
export async function atSite<Result>(stateDirectory: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    if (isNoPath(error)) await requireStateDirectory(stateDirectory)
    throw error
  }
}

/** @throws ProviderError UNREACHABLE when it is gone. */
export async function requireStateDirectory(stateDirectory: string): Promise<void> {
  const found = await stat(machinesOf(stateDirectory)).catch((error: unknown) => {
    if (isNoPath(error)) return null
    throw error
  })
  if (!found?.isDirectory()) throw gone(stateDirectory)
}

function isNoPath(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR', 'EEXIST', 'ESTALE', 'EIO'].includes((error as NodeJS.ErrnoException).code ?? '')
}

function gone(stateDirectory: string): ProviderError {
  return new ProviderError('UNREACHABLE', `The state directory ${stateDirectory} is not there, so nothing is known of this cloud.`, {
    retryable: true,
    remedy: 'Mount its file system, or put it back where it was. Nothing was changed.',
    path: ['options', 'stateDirectory'],
  })
}
