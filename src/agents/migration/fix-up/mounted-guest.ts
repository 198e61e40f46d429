import { mkdtemp, readdir, readFile, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { probeFileSystems, type FileSystem } from '../file-systems.ts'
import { runTool } from '../run-tool.ts'
import type { Guest } from './fix-up-step.ts'
import { guestFiles } from './guest-files.ts'
import { otherMounts } from './stable-devices.ts'

/**
 * Mounts the guest's root read-write, which replays the journal of a file system that was frozen, and what it keeps on the same disk beside it (/boot, /usr, /var). Null where
 * no root was found; `found` is a sentence in any case. Everything is unmounted when `work` has ended.
 */
export async function withGuest<T>(diskName: string, work: (guest: Guest | null, found: string) => Promise<T>): Promise<T> {
  await unmountLeft(diskName)
  const directory = await mkdtemp(join(tmpdir(), directoryPrefix))
  // In reverse order at the end; `-l` is the last resort, since a tool of the guest may have left something running in there.
  const mounted: string[] = []
  const mount = async (args: string[], at: string) => {
    await runTool('mount', [...args, at])
    mounted.push(at)
  }
  const unmountAll = async () => {
    for (const at of mounted.splice(0).toReversed()) await runTool('umount', [at]).catch(() => runTool('umount', ['-l', at]))
  }
  try {
    const fileSystems = await probeFileSystems(diskName)
    const rootFileSystem = await mountRoot(fileSystems, directory, mount, unmountAll)
    if (!rootFileSystem) return await work(null, noRoot(diskName, fileSystems))
    const look = guestFiles(directory, { inPlace: true })
    for (const { path, fileSystem } of otherMounts((await look.read('/etc/fstab')) ?? '', fileSystems)) {
      const at = await look.resolve(path)
      if (await look.exists(path)) await mount(['-t', fileSystem.type, fileSystem.device], at).catch(() => {})
    }
    const files = guestFiles(directory, {
      inPlace: /^SELINUX=(enforcing|permissive)\b/m.test((await look.read('/etc/selinux/config')) ?? ''),
    })
    let prepared: Promise<void> | null = null
    const guest: Guest = {
      diskName,
      directory,
      files,
      fileSystems,
      rootFileSystem,
      async run(program, args, timeoutMs) {
        prepared ??= mountForTools(files, mount)
        await prepared
        const quiet = ['PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C']
        return runTool('chroot', [directory, 'env', '-i', ...quiet, program, ...args], { timeoutMs })
      },
    }
    return await work(guest, `${rootFileSystem.device} (${rootFileSystem.type}) holds the guest's root`)
  } finally {
    await unmountAll()
    await rmdir(directory)
  }
}

const directoryPrefix = 'portolan-root-'

/** An agent that was killed meanwhile leaves what it had mounted; while that stays, unmounting ours would not write the disk. */
async function unmountLeft(diskName: string): Promise<void> {
  const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => line.split(' '))
  const below = join(tmpdir(), directoryPrefix)
  const ofDisk = new RegExp(`^/dev/${diskName}(${/\d$/.test(diskName) ? 'p' : ''}\\d+)?$`)
  const roots = mounts.flatMap(([device = '', at = '']) => (ofDisk.test(device) && at.startsWith(below) ? [at] : []))
  for (const root of roots.filter((at) => !at.slice(below.length).includes('/'))) {
    const inIt = mounts.flatMap(([, at = '']) => (at === root || at.startsWith(`${root}/`) ? [at] : []))
    for (const at of inIt.toReversed()) await runTool('umount', [at]).catch(() => runTool('umount', ['-l', at]))
    await rmdir(root).catch(() => {})
  }
}

async function mountRoot(
  fileSystems: FileSystem[],
  directory: string,
  mount: (args: string[], at: string) => Promise<void>,
  unmountAll: () => Promise<void>,
): Promise<FileSystem | null> {
  for (const fileSystem of fileSystems.filter(({ type }) => /^(ext[234]|xfs|btrfs)$/.test(type))) {
    if (fileSystem.type === 'xfs') await insertFileSystems()
    const mounted = await mount(['-t', fileSystem.type, fileSystem.device], directory).then(
      () => true,
      () => false,
    )
    if (!mounted) continue
    if ((await guestFiles(directory, { inPlace: true }).read('/etc/fstab')) !== null) return fileSystem
    await unmountAll()
  }
  return null
}

/** The landing image keeps what isn't in its kernel beside it. Elsewhere there is nothing to insert; and one that is there already is refused. */
async function insertFileSystems(): Promise<void> {
  const directory = '/modules/file-systems'
  for (const name of (await readdir(directory).catch((): string[] => [])).toSorted())
    await runTool('insmod', [join(directory, name)]).catch(() => {})
}

/** The guest's tools ask the kernel what there is. The devices are those of the landing image, whose disk is the guest's. */
async function mountForTools(
  files: { resolve(path: string): Promise<string> },
  mount: (args: string[], at: string) => Promise<void>,
): Promise<void> {
  await mount(['-t', 'proc', 'proc'], await files.resolve('/proc'))
  await mount(['-t', 'sysfs', 'sysfs'], await files.resolve('/sys'))
  await mount(['--bind', '/dev'], await files.resolve('/dev'))
}

function noRoot(diskName: string, fileSystems: FileSystem[]): string {
  const types = fileSystems.map(({ type }) => type)
  const why = types.includes('LVM2_member')
    ? 'its root is on LVM, which the landing image does not open'
    : types.includes('crypto_LUKS')
      ? 'its file systems are encrypted'
      : types.includes('linux_raid_member')
        ? 'its root is on a software RAID'
        : `none of its file systems (${types.join(', ') || 'none known'}) could be mounted and holds /etc/fstab`
  return `No root was found on ${diskName}: ${why}. Nothing in the guest was fitted to its new place.`
}
