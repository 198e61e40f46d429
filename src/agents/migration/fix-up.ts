/**
 * Prepares the copied guest for its new place, on the overlay: the copied disk itself stays as it was verified. Each step reads, decides with a pure function, and
 * writes only what has to change. A guest that keeps its root elsewhere, or in a form unknown here, is left as it is, and the steps say so.
 */
import { mkdir, mkdtemp, readFile, rename, rmdir, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { ControlRequests } from '../../transfer/control-protocol.ts'
import { TransferError } from '../../transfer/transfer-error.ts'
import { probeFileSystems, type FileSystem } from './file-systems.ts'
import { stableFstab } from './fstab.ts'
import { linkFiles } from './nic-names.ts'
import { runTool } from './run-tool.ts'

export type FixUpStep = ControlRequests['fixUp'][1]['steps'][number]

/** `diskName` is the kernel's, such as `vda`. Running it again changes nothing. Throws TransferError FIX_UP_FAILED; nothing stays mounted. */
export async function fixUpDisk(diskName: string, nics: { mac: string; name: string }[]): Promise<FixUpStep[]> {
  const directory = await mkdtemp(join(tmpdir(), 'portolan-root-'))
  try {
    const fileSystems = await probeFileSystems(diskName)
    const root = await mountRoot(fileSystems, directory)
    if (!root)
      return [{ step: 'find-root', changed: false, detail: `No file system of ${diskName} holds /etc/fstab; the guest boots as it is.` }]
    try {
      return [
        { step: 'find-root', changed: false, detail: `${root.device} (${root.type}) holds the guest's root` },
        await stabiliseFstab(directory, fileSystems),
        await keepNicNames(directory, nics),
      ]
    } finally {
      await runTool('umount', [directory])
    }
  } catch (error) {
    throw new TransferError(
      'FIX_UP_FAILED',
      `The copied guest on ${diskName} could not be prepared: ${String(error)}. What was verified is unchanged; discard the overlay and try again.`,
      {
        retryable: true,
        cause: error,
      },
    )
  } finally {
    await rmdir(directory)
  }
}

/** Mounts the root read-write, which replays the journal of a file system that was frozen. */
async function mountRoot(fileSystems: FileSystem[], directory: string): Promise<FileSystem | null> {
  for (const fileSystem of fileSystems.filter(({ type }) => /^(ext[234]|xfs|btrfs)$/.test(type))) {
    const mounted = await runTool('mount', ['-t', fileSystem.type, fileSystem.device, directory]).then(
      () => true,
      () => false,
    )
    if (!mounted) continue
    const holdsRoot = await stat(join(directory, 'etc/fstab')).then(
      (found) => found.isFile(),
      () => false,
    )
    if (holdsRoot) return fileSystem
    await runTool('umount', [directory])
  }
  return null
}

/** A disk may be called otherwise on another bus: `/dev/sda1` becomes its UUID. */
async function stabiliseFstab(root: string, fileSystems: FileSystem[]): Promise<FixUpStep> {
  const path = join(root, 'etc/fstab')
  const before = await readFile(path, 'utf8')
  const { text, replaced } = stableFstab(before, fileSystems)
  if (text !== before) await replaceFile(path, text, (await stat(path)).mode & 0o777)
  return { step: 'fstab-by-uuid', changed: text !== before, detail: replaced.join(', ') || 'no entry names a device by its place' }
}

/** Interfaces keep the names that the guest's configuration knows, whatever slot they are in now. */
async function keepNicNames(root: string, nics: { mac: string; name: string }[]): Promise<FixUpStep> {
  const step = 'nic-names'
  const directory = join(root, 'etc/systemd/network')
  const systemd = await stat(join(root, 'usr/lib/systemd')).catch(() => null)
  if (!systemd) return { step, changed: false, detail: 'no systemd in the guest: the kernel names its interfaces' }
  const changed: string[] = []
  for (const { name, content } of linkFiles(nics)) {
    const path = join(directory, name)
    if ((await readFile(path, 'utf8').catch(() => null)) === content) continue
    await mkdir(directory, { recursive: true })
    await replaceFile(path, content, 0o644)
    changed.push(name)
  }
  return { step, changed: changed.length > 0, detail: changed.join(', ') || 'nothing to do' }
}

async function replaceFile(path: string, content: string, mode: number): Promise<void> {
  const fresh = join(dirname(path), `.portolan-${process.pid}`)
  await writeFile(fresh, content, { mode, flush: true })
  await rename(fresh, path)
}
