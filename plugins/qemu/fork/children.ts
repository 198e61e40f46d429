/**
 * Children: a QEMU each, that maps its parent's memory privately, has an empty overlay above its parent's disk, and takes in the state of its parent's devices.
 *
 * A fork is on somebody's critical path, so it asks nothing of the host and starts no tool: everything is ready in the parent's directory. Making the child's directory claims its id;
 * `forked` in its record is set last. A call that was killed between the two is completed by the same call, or undone by deleteChild.
 */
import { chmod, chown, constants, copyFile, mkdir, open, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type ChildDescription, type ForkCapability, ProviderError } from '../../../src/plugin-sdk/index.ts'
import { asRoomAllows } from '../durable-file.ts'
import { userNetwork } from '../machine.ts'
import { withQmp } from '../qmp.ts'
import { isAlive } from '../qemu-process.ts'
import { macOf, readersGroupId, userIdOf } from './child-account.ts'
import { confinedCommand, startConfined } from './confined-start.ts'
import { requireMemoryForChild } from './fork-capacity.ts'
import { childCommandLine } from './fork-command-line.ts'
import { type Child, childFiles, type Parent, parentFiles, runFiles } from './fork-files.ts'
import { endForkProcesses, findForkProcesses, proportionalBytes } from './fork-processes.ts'
import {
  childDirectory,
  type ForkSite,
  isId,
  listChildDirectories,
  parentDirectory,
  readChild,
  requireId,
  requireSaved,
  socketPath,
  writeChild,
} from './fork-site.ts'
import type { OneAtATime } from './one-at-a-time.ts'
import { untilReady } from './until-ready.ts'

type ForkRequest = Parameters<ForkCapability['forkChild']>[0]

/** What an empty overlay takes: the bound on its file is above that. */
const emptyOverlayBytes = 200 * 1024

export function forkChild(site: ForkSite, oneAtATime: OneAtATime): ForkCapability['forkChild'] {
  return (request) =>
    oneAtATime(requireId(request.childId, 'childId'), async () => {
      requireSensible(request)
      const parent = await requireSaved(site, request.parentId)
      const directory = childDirectory(site, request.parentId, request.childId)
      const child = (await finished(site, request, directory)) ?? (await fork(site, parent, directory, request))
      return { channel: { path: socketPath(directory, 'channel', child.process?.pid ?? 0) }, mac: child.mac }
    })
}

/** The child, where an earlier call made it; what one left that was killed half-way is removed. */
async function finished(site: ForkSite, { childId, parentId, signal }: ForkRequest, directory: string): Promise<Child | null> {
  const elsewhere = (await listChildDirectories(site)).find((child) => child.childId === childId && child.parentId !== parentId)
  if (elsewhere) throw ofAnotherParent(childId, elsewhere.parentId)
  const child = await readChild(directory)
  if (child?.forked) return child
  if (child || (await stat(directory).catch(() => null))) await removeChild(site, childId, directory, signal)
  return null
}

async function fork(site: ForkSite, parent: Parent, directory: string, request: ForkRequest): Promise<Child> {
  const { parentId, childId, limits, paused, signal } = request
  await requireMemoryForChild(site, parent, limits)
  const child: Child = {
    version: 1,
    childId,
    parentId,
    limits,
    paused,
    mac: macOf(childId),
    startedAt: new Date().toISOString(),
    forked: false,
    process: null,
  }
  await mkdir(directory, { mode: 0o711 }).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'EEXIST' ? beingForked(childId) : error
  })
  try {
    return await asRoomAllows(`the child ${childId}`, async () => {
      await writeChild(directory, child)
      await layOut(site, directory, child)
      const enterFiles = (await site.cgroups?.make(childId, limits)) ?? []
      signal?.throwIfAborted()
      const process = await start(site, parent, directory, child, enterFiles, signal)
      const forked: Child = { ...child, forked: true, process }
      await writeChild(directory, forked)
      return forked
    })
  } catch (error) {
    await removeChild(site, childId, directory, undefined)
    throw error
  }
}

/** Its account can write to `run`, and to nothing else. */
async function layOut(site: ForkSite, directory: string, { childId, parentId }: Child): Promise<void> {
  const run = join(directory, childFiles.run)
  await chmod(directory, 0o711)
  await mkdir(run, { mode: 0o700 })
  const overlay = join(run, runFiles.overlay)
  await copyFile(join(parentDirectory(site, parentId), parentFiles.overlay), overlay, constants.COPYFILE_EXCL)
  if (site.accounts) for (const path of [overlay, run]) await chown(path, userIdOf(childId), readersGroupId)
}

async function start(
  site: ForkSite,
  parent: Parent,
  directory: string,
  child: Child,
  enterFiles: string[],
  signal: AbortSignal | undefined,
): Promise<Child['process']> {
  const { childId, limits, mac, paused } = child
  const command = confinedCommand(site.options.qemuBinary, childCommandLine(parent.hardware, { mac, network: limits.network, paused }), {
    userId: site.accounts ? userIdOf(childId) : null,
    enterFiles,
    maxFileBytes: limits.diskBytes + emptyOverlayBytes,
    maxLifetimeMs: limits.maxLifetimeMs,
  })
  const logPath = join(directory, childFiles.log)
  const log = await open(logPath, 'a', 0o600)
  const devices = await open(join(parentDirectory(site, child.parentId), parentFiles.devices))
  try {
    const cwd = join(directory, childFiles.run)
    const process = startConfined(command, { cwd, log, fds: [devices.fd], preload: `../../../${parentFiles.openReadOnly}` })
    const controlPath = socketPath(directory, 'control', process.pid ?? 0)
    await untilReady({ vm: `the child ${childId}`, process, controlPath, logPath }, signal)
    return (await findForkProcesses(site.options.qemuBinary)).get(cwd)?.qemu ?? null
  } finally {
    await log.close()
    await devices.close()
  }
}

export function resumeChild(site: ForkSite, oneAtATime: OneAtATime): ForkCapability['resumeChild'] {
  return ({ childId, signal }) =>
    oneAtATime(requireId(childId, 'childId'), async () => {
      const found = (await listChildDirectories(site)).find((candidate) => candidate.childId === childId)
      const child = found && (await readChild(found.directory))
      if (!found || !child?.forked) throw notThere(childId)
      if (!child.paused) return
      if (!child.process || !(await isAlive(child.process))) throw ended(childId)
      await withQmp(socketPath(found.directory, 'control', child.process.pid), { signal }, (session) => session.execute('cont'))
      await writeChild(found.directory, { ...child, paused: false })
    })
}

export function listChildren(site: ForkSite): ForkCapability['listChildren'] {
  return async () => {
    const [directories, processes] = await Promise.all([listChildDirectories(site), findForkProcesses(site.options.qemuBinary)])
    const described = directories.map(async ({ parentId, childId, directory }): Promise<ChildDescription | null> => {
      const [child, made] = [await readChild(directory), await stat(directory).catch(() => null)]
      if (!made) return null
      const qemu = processes.get(join(directory, childFiles.run))?.qemu ?? null
      return {
        childId,
        parentId,
        state: !qemu ? 'ENDED' : child?.paused ? 'PAUSED' : 'RUNNING',
        memoryBytes: qemu ? await proportionalBytes(qemu.pid) : 0,
        ...(qemu && { pid: qemu.pid }),
        startedAt: child?.startedAt ?? made.mtime.toISOString(),
      }
    })
    return (await Promise.all(described)).filter((child) => child !== null)
  }
}

export function deleteChild(site: ForkSite, oneAtATime: OneAtATime): ForkCapability['deleteChild'] {
  return async ({ childId, signal }) => {
    if (!isId(childId)) return
    await oneAtATime(childId, async () => {
      const found = (await listChildDirectories(site)).filter((candidate) => candidate.childId === childId)
      for (const { directory } of found) await removeChild(site, childId, directory, signal)
    })
  }
}

/** Its directory goes last: until then a repeated call finds what is left. */
async function removeChild(site: ForkSite, childId: string, directory: string, signal: AbortSignal | undefined): Promise<void> {
  const processes = (await findForkProcesses(site.options.qemuBinary)).get(join(directory, childFiles.run))
  await endForkProcesses(processes?.all ?? [], signal)
  await site.cgroups?.remove(childId)
  await rm(directory, { recursive: true, force: true })
}

function requireSensible({ limits }: ForkRequest): void {
  const { network, ...numbers } = limits
  for (const [name, value] of Object.entries(numbers))
    if (!Number.isFinite(value) || value < 0 || (name !== 'diskBytes' && value === 0)) throw badLimit(name, value)
  if (network !== 'NONE' && network.networkId !== userNetwork.id)
    throw new ProviderError('NOT_FOUND', `Children here can't be given the network ${JSON.stringify(network.networkId.slice(0, 80))}.`, {
      retryable: false,
      remedy: `Use NONE, or ${userNetwork.id}. Nothing was changed.`,
      path: ['limits', 'network'],
    })
}

function badLimit(name: string, value: number): ProviderError {
  return new ProviderError('UNSUPPORTED', `A child's ${name} can't be ${value}.`, {
    retryable: false,
    remedy: 'Give a number above zero. Nothing was changed.',
    path: ['limits', name],
  })
}

function ofAnotherParent(childId: string, parentId: string): ProviderError {
  return new ProviderError('CONFLICT', `The child ${childId} is there already, of the parent ${parentId}.`, {
    retryable: false,
    remedy: 'Give every child an id of its own. Nothing was changed.',
    path: ['childId'],
  })
}

function beingForked(childId: string): ProviderError {
  return new ProviderError('CONFLICT', `The child ${childId} is being forked by another process of this plugin.`, {
    retryable: true,
    remedy: 'Call again.',
    path: ['childId'],
  })
}

function notThere(childId: string): ProviderError {
  return new ProviderError('NOT_FOUND', `There is no child with the id ${childId} at this cloud.`, {
    retryable: false,
    remedy: 'Fork it first.',
    path: ['childId'],
  })
}

function ended(childId: string): ProviderError {
  return new ProviderError('CONFLICT', `The child ${childId} has ended, so it can't be resumed.`, {
    retryable: false,
    remedy: 'Delete it and fork another one.',
    path: ['childId'],
  })
}
