/**
 * Parents: booted, warmed by the caller, saved, and from then on files alone.
 *
 *   BOOTING -- its devices' state is whole --> ENDING -- QEMU is gone, files are read-only and hashed --> SAVED
 *
 * Changes of one parent run one at a time, also over several plugin processes. A call that was killed is completed by the same call: each step looks at what is there.
 */
import { chmod, chown, constants, copyFile, lstat, mkdir, open, readdir, rename, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type ForkCapability, ProviderError, type SavedParent } from '../../../src/plugin-sdk/index.ts'
import { asRoomAllows, syncPath, writeDurably } from '../durable-file.ts'
import { withLock } from '../machine-lock.ts'
import { withQmp } from '../qmp.ts'
import { runTool } from '../run-tool.ts'
import { sizeOf } from '../size-of.ts'
import { macOf, readersGroupId, userIdOf } from './child-account.ts'
import { confinedCommand, startConfined } from './confined-start.ts'
import { requireRoomForParent } from './fork-capacity.ts'
import { hardwareOf, parentCommandLine } from './fork-command-line.ts'
import { type Parent, parentFiles } from './fork-files.ts'
import { endForkProcesses, findForkProcesses } from './fork-processes.ts'
import { type ForkSite, isId, listChildDirectories, parentDirectory, readParent, requireSaved, socketPath } from './fork-site.ts'
import { openReadOnlyLibrary } from './open-read-only.ts'
import { alreadySaved, endedUnsaved, hasChildren, notThere } from './parent-errors.ts'
import { hashes } from './parent-hashes.ts'
import { untilReady } from './until-ready.ts'

/** A parent that nobody saves ends by itself. */
const longestBuildMs = 60 * 60_000
const copyTimeoutMs = 5 * 60_000
const saveTimeoutMs = 5 * 60_000
/** More than the kernel's messages and QEMU's take. */
const logBytes = 64 * 1024 * 1024

export function bootParent(site: ForkSite): ForkCapability['bootParent'] {
  return async ({ parentId, image, memoryBytes, cpuCount, signal }) => {
    const directory = parentDirectory(site, parentId)
    return locked(site, parentId, signal, async () => {
      const running = (await processesOf(site, directory)).qemu
      const there = await readParent(site, parentId)
      if (there && there.state !== 'BOOTING') throw alreadySaved(parentId)
      if (!there || !running) {
        await endIn(site, directory, signal)
        await rm(directory, { recursive: true, force: true })
        await asRoomAllows(`the parent ${parentId}`, async () => {
          const parent: Parent = {
            version: 1,
            parentId,
            hardware: hardwareOf(site.host, { memoryBytes, cpuCount }),
            diskBytes: await sizeOf(image.diskPath, ['image', 'diskPath']),
            state: 'BOOTING',
            stoppedAt: null,
            saved: null,
          }
          await requireRoomForParent(site, parent)
          await layOut(site, directory, parent, image, signal)
          await start(site, directory, parent, image.commandLine, signal)
        })
      }
      const pid = (await processesOf(site, directory)).qemu?.pid ?? 0
      return { channel: { path: socketPath(directory, 'channel', pid) } }
    })
  }
}

export function saveParent(site: ForkSite): ForkCapability['saveParent'] {
  return async ({ parentId, signal }) => {
    const directory = parentDirectory(site, parentId)
    return locked(site, parentId, signal, async () => {
      const parent = await readParent(site, parentId)
      if (!parent) throw notThere(parentId)
      if (!parent.saved) {
        const stopped = parent.state === 'BOOTING' ? await saveDevices(site, directory, parent, signal) : parent
        const endedAt = await endIn(site, directory, signal).then(() => new Date())
        await keep(directory, site, signal)
        const saveMs = Math.max(0, endedAt.getTime() - Date.parse(stopped.stoppedAt ?? endedAt.toISOString()))
        await record(directory, {
          ...stopped,
          state: 'SAVED',
          saved: { savedAt: endedAt.toISOString(), saveMs, ...(await hashes(directory)) },
        })
      }
      return describeSaved(site, parentId)
    })
  }
}

export function describeParents(site: ForkSite): ForkCapability['describeParents'] {
  return async () => {
    const ids = (await readdir(site.parents)).filter(isId)
    const parents = await Promise.all(ids.map((parentId) => readParent(site, parentId)))
    return Promise.all(parents.filter((parent) => parent?.saved).map((parent) => describeSaved(site, parent?.parentId ?? '')))
  }
}

export function deleteParent(site: ForkSite): ForkCapability['deleteParent'] {
  return async ({ parentId, signal }) => {
    if (!isId(parentId)) return
    const directory = parentDirectory(site, parentId)
    await locked(site, parentId, signal, async () => {
      const children = await listChildDirectories(site, [parentId])
      if (children.length > 0) throw hasChildren(parentId, children.length)
      await endIn(site, directory, signal)
      const doomed = join(site.parents, `.removing-${parentId}`)
      await rename(directory, doomed).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error
      })
      await removeDoomed(site, doomed, signal)
    })
  }
}

/** Finishes removals that were interrupted. What somebody is working on stays. */
export async function sweepParents(site: ForkSite): Promise<void> {
  for (const name of (await readdir(site.parents)).filter((entry) => entry.startsWith('.removing-'))) {
    const parentId = name.slice('.removing-'.length)
    const removal = () => removeDoomed(site, join(site.parents, name), undefined)
    await withLock(lockPath(site, parentId), undefined, removal, 0).catch((error: unknown) => {
      if (!(error instanceof ProviderError && error.code === 'TIMED_OUT')) throw error
    })
  }
}

/** With a child whose fork began before the removal did. */
async function removeDoomed(site: ForkSite, doomed: string, signal: AbortSignal | undefined): Promise<void> {
  const processes = [...(await findForkProcesses(site.options.qemuBinary))].filter(([directory]) => directory.startsWith(`${doomed}/`))
  await endForkProcesses(
    processes.flatMap(([, { all }]) => all),
    signal,
  )
  const children = await readdir(join(doomed, parentFiles.children)).catch(() => [])
  for (const childId of children) await site.cgroups?.remove(childId)
  await rm(doomed, { recursive: true, force: true })
}

/** Everything that QEMU needs. The account of its process can write to what is in `run`, and to nothing else. */
async function layOut(
  site: ForkSite,
  directory: string,
  parent: Parent,
  image: Parameters<ForkCapability['bootParent']>[0]['image'],
  signal: AbortSignal | undefined,
): Promise<void> {
  const run = join(directory, parentFiles.run)
  await mkdir(directory, { mode: 0o711 })
  await mkdir(join(directory, parentFiles.children), { mode: 0o711 })
  await mkdir(run, { mode: 0o700 })
  // The umask may have taken from these.
  for (const path of [directory, join(directory, parentFiles.children)]) await chmod(path, 0o711)
  const readable: [keyof typeof parentFiles, string, string][] = [
    ['kernel', image.kernelPath, 'kernelPath'],
    ['initrd', image.initrdPath, 'initrdPath'],
  ]
  for (const [name, from, member] of readable) {
    await sizeOf(from, ['image', member])
    const to = join(directory, parentFiles[name])
    await copyFile(from, to, constants.COPYFILE_FICLONE)
    await chmod(to, 0o444)
  }
  const disk = join(run, parentFiles.disk)
  await runTool('cp', ['--sparse=always', '--reflink=auto', '--', image.diskPath, disk], { cwd: run, signal, timeoutMs: copyTimeoutMs })
  await writeFile(join(run, parentFiles.ram), '', { mode: 0o600 })
  await truncate(join(run, parentFiles.ram), parent.hardware.memoryKiB * 1024)
  if (site.accounts) {
    const userId = userIdOf(parent.parentId)
    for (const path of [run, disk, join(run, parentFiles.ram)]) await chown(path, userId, readersGroupId)
  }
  await chmod(disk, 0o600)
}

async function start(
  site: ForkSite,
  directory: string,
  parent: Parent,
  kernelArguments: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  await record(directory, parent)
  const { qemuBinary } = site.options
  const qemuArguments = parentCommandLine(parent.hardware, macOf(parent.parentId), kernelArguments)
  const command = confinedCommand(qemuBinary, qemuArguments, {
    userId: site.accounts ? userIdOf(parent.parentId) : null,
    enterFiles: [],
    maxFileBytes: Math.max(parent.hardware.memoryKiB * 1024, parent.diskBytes) + logBytes,
    maxLifetimeMs: longestBuildMs,
  })
  const logPath = join(directory, parentFiles.log)
  const log = await open(logPath, 'a', 0o600)
  try {
    const process = startConfined(command, { cwd: join(directory, parentFiles.run), log })
    const controlPath = socketPath(directory, 'control', process.pid ?? 0)
    await untilReady({ vm: `the parent ${parent.parentId}`, process, controlPath, logPath }, signal)
  } finally {
    await log.close()
  }
}

/** The vCPUs stand still from here on: were they to run on, the memory in the file would no longer fit the devices' state. */
async function saveDevices(site: ForkSite, directory: string, parent: Parent, signal: AbortSignal | undefined): Promise<Parent> {
  const { qemu } = await processesOf(site, directory)
  if (!qemu) throw endedUnsaved(parent.parentId)
  const stoppedAt = parent.stoppedAt ?? new Date().toISOString()
  await withQmp(socketPath(directory, 'control', qemu.pid), { signal, answerTimeoutMs: saveTimeoutMs }, async (session) => {
    await session.execute('stop')
    // Not live: QEMU 7.2 would hand its disk over with it, and abort where a call that was cut short is made again.
    await session.execute('xen-save-devices-state', { filename: parentFiles.devices, live: false })
  })
  const stopped: Parent = { ...parent, state: 'ENDING', stoppedAt }
  await syncPath(join(directory, parentFiles.run, parentFiles.devices))
  await record(directory, stopped)
  return stopped
}

/** Takes the files from the account that wrote them, and makes them everybody's to read who is to fork from them. Its QEMU is gone. */
async function keep(directory: string, site: ForkSite, signal: AbortSignal | undefined): Promise<void> {
  const run = join(directory, parentFiles.run)
  for (const name of [parentFiles.ram, parentFiles.disk, parentFiles.devices, parentFiles.console]) {
    const [from, to] = [join(run, name), join(directory, name)]
    await rename(from, to).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
    })
    if (!(await lstat(to)).isFile()) throw new Error(`${to} is no file.`)
    if (site.accounts) await chown(to, 0, readersGroupId)
    await chmod(to, name === parentFiles.console ? 0o600 : 0o440)
    await syncPath(to)
  }
  for (const name of [parentFiles.kernel, parentFiles.initrd, parentFiles.run])
    await rm(join(directory, name), { recursive: true, force: true })
  const { size } = await stat(join(directory, parentFiles.disk))
  const create = ['create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', parentFiles.overlay, String(size)]
  await runTool(site.options.qemuImgBinary, create, { cwd: directory, signal, timeoutMs: 60_000 })
  await writeFile(join(directory, parentFiles.openReadOnly), openReadOnlyLibrary())
  await chmod(join(directory, parentFiles.openReadOnly), 0o444)
  await syncPath(directory)
}

async function describeSaved(site: ForkSite, parentId: string): Promise<SavedParent> {
  const { hardware, diskBytes, saved } = await requireSaved(site, parentId)
  const { blocks } = await stat(join(parentDirectory(site, parentId), parentFiles.ram))
  return {
    parentId,
    memoryBytes: hardware.memoryKiB * 1024,
    ramFileBytes: blocks * 512,
    diskBytes,
    ...saved,
    childCount: (await listChildDirectories(site, [parentId])).length,
  }
}

const record = (directory: string, parent: Parent) => writeDurably(join(directory, parentFiles.record), JSON.stringify(parent, null, 2))

const lockPath = ({ options }: ForkSite, parentId: string) => join(options.stateDirectory, 'locks', `parent-${parentId}`)

function locked<Result>(site: ForkSite, parentId: string, signal: AbortSignal | undefined, work: () => Promise<Result>): Promise<Result> {
  return withLock(lockPath(site, parentId), signal, work)
}

async function processesOf(site: ForkSite, directory: string) {
  const found = await findForkProcesses(site.options.qemuBinary)
  return found.get(join(directory, parentFiles.run)) ?? { qemu: null, all: [] }
}

async function endIn(site: ForkSite, directory: string, signal: AbortSignal | undefined): Promise<void> {
  await endForkProcesses((await processesOf(site, directory)).all, signal)
}
