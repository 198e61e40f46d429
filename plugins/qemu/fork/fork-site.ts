/** What parents and children have in common: where they are, how they are confined, and how their records are read. */
import { mkdir, readdir, readFile, realpath, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ProviderError } from '../../../src/plugin-sdk/index.ts'
import type { Site } from '../site.ts'
import type { ChildCgroups } from './child-cgroup.ts'
import { type Child, childFiles, type Parent, parentFiles, runFiles } from './fork-files.ts'

export interface ForkSite extends Site {
  /** Where parents' directories are; without symbolic links, as the process table shows it. */
  parents: string
  /** Whether children's processes get accounts of their own. */
  accounts: boolean
  cgroups: ChildCgroups | null
}

const idPattern = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/
/** What a Unix socket's address holds. */
const longestSocketPath = 107

export async function makeParentsDirectory(stateDirectory: string): Promise<string> {
  const directory = join(await realpath(stateDirectory), 'parents')
  await mkdir(directory, { recursive: true, mode: 0o711 })
  return directory
}

/** An id that is safe as a file's name. @throws ProviderError NOT_FOUND otherwise. */
export function requireId(id: string, what: 'parentId' | 'childId'): string {
  if (idPattern.test(id)) return id
  throw new ProviderError('NOT_FOUND', `${JSON.stringify(id.slice(0, 80))} can't be the id of a parent or child here.`, {
    retryable: false,
    remedy: 'Use 1 to 64 letters, digits, dots, dashes and underscores, beginning with neither a dot nor a dash.',
    path: [what],
  })
}

export const isId = (id: string) => idPattern.test(id)
export const parentDirectory = (site: ForkSite, parentId: string) => join(site.parents, requireId(parentId, 'parentId'))
export const childDirectory = (site: ForkSite, parentId: string, childId: string) =>
  join(parentDirectory(site, parentId), parentFiles.children, requireId(childId, 'childId'))

export async function readParent(site: ForkSite, parentId: string): Promise<Parent | null> {
  return readRecord<Parent>(join(parentDirectory(site, parentId), parentFiles.record))
}

/** @throws ProviderError NOT_FOUND where there is none that children can be forked from. */
export async function requireSaved(site: ForkSite, parentId: string): Promise<Parent & { saved: NonNullable<Parent['saved']> }> {
  const parent = isId(parentId) ? await readParent(site, parentId) : null
  if (parent?.saved) return { ...parent, saved: parent.saved }
  throw new ProviderError('NOT_FOUND', `There is no saved parent with the id ${JSON.stringify(parentId.slice(0, 80))} at this cloud.`, {
    retryable: false,
    remedy: 'Boot and save it first.',
    path: ['parentId'],
  })
}

/** Null where its directory is there, but was not filled before a call was killed. */
export async function readChild(directory: string): Promise<Child | null> {
  return readRecord<Child>(join(directory, childFiles.record))
}

/** Not flushed: no child outlives its host. */
export async function writeChild(directory: string, child: Child): Promise<void> {
  const path = join(directory, childFiles.record)
  await writeFile(`${path}.partial`, JSON.stringify(child))
  await rename(`${path}.partial`, path)
}

/** All children's directories, whatever is in them. */
export async function listChildDirectories(
  site: ForkSite,
  parentIds?: string[],
): Promise<{ parentId: string; childId: string; directory: string }[]> {
  const parents = parentIds ?? (await namesIn(site.parents)).filter(isId)
  const found = await Promise.all(
    parents.map(async (parentId) => {
      const children = join(parentDirectory(site, parentId), parentFiles.children)
      return (await namesIn(children)).filter(isId).map((childId) => ({ parentId, childId, directory: join(children, childId) }))
    }),
  )
  return found.flat()
}

/** Reached through `pid`'s working directory where the path is too long for a socket. */
export function socketPath(directory: string, name: keyof typeof runFiles, pid: number): string {
  const path = join(directory, 'run', runFiles[name])
  return Buffer.byteLength(path) <= longestSocketPath ? path : `/proc/${pid}/cwd/${runFiles[name]}`
}

async function readRecord<Found>(path: string): Promise<Found | null> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  return text === null ? null : (JSON.parse(text) as Found)
}

async function namesIn(directory: string): Promise<string[]> {
  return readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
}
