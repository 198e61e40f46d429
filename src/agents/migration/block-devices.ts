/** The guest's disks, and what is mounted on them, from /proc and /sys. */
import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { AgentDisk } from '../../transfer/control-protocol.ts'

type Mount = AgentDisk['mounts'][number] & { deviceNumber: string }

/** Not disks of their own: they stand on others, or on nothing that lasts. */
const notDisks = /^(loop|ram|zram|dm-|md|sr|fd|nbd)/

export async function listDisks(): Promise<AgentDisk[]> {
  const names = (await readdir('/sys/block')).filter((name) => !notDisks.test(name))
  const disks = await Promise.all(names.map(describeDisk))
  return disks.filter((disk) => disk.sizeBytes > 0)
}

/** By the kernel's name or the serial; any block device that has a name of its own under /sys/block. Null when there is none. */
export async function findDisk(nameOrSerial: string): Promise<AgentDisk | null> {
  const bySerial = (await listDisks()).find((disk) => disk.serial === nameOrSerial)
  if (bySerial) return bySerial
  return (await readdir('/sys/block')).includes(nameOrSerial) ? describeDisk(nameOrSerial) : null
}

async function describeDisk(name: string): Promise<AgentDisk> {
  const mounts = await Promise.all(parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8')).map(onItsDevice))
  const swaps = (await readFile('/proc/swaps', 'utf8').catch(() => '')).split('\n').slice(1)
  const placed = await Promise.all(mounts.map(async (mount) => ({ mount, depths: await depthsOn(name, mount.deviceNumber, mounts) })))
  const own = placed.filter(({ depths }) => depths.length > 0).map(({ mount, depths }) => ({ mount, depth: Math.max(...depths) }))
  const swapHere = await Promise.all(swaps.map((line) => swapsOn(name, line.split(/\s+/)[0] ?? '', mounts)))
  return {
    name,
    sizeBytes: await sizeOf(name),
    serial: await serialOf(name),
    mounts: innermostFirst(own),
    root: own.some(({ mount }) => mount.path === '/'),
    swap: swapHere.includes(true),
  }
}

/** In bytes, as it is now: a disk may grow while it is in use. */
export async function sizeOf(name: string): Promise<number> {
  return Number(await readFile(`/sys/block/${name}/size`, 'latin1')) * 512
}

/** `major:minor` of /dev/<name>, as two numbers. */
export async function deviceNumberOf(name: string): Promise<{ major: number; minor: number }> {
  const [major, minor] = (await readFile(`/sys/class/block/${name}/dev`, 'latin1')).trim().split(':').map(Number)
  if (major === undefined || minor === undefined) throw new Error(`/sys/class/block/${name}/dev is unreadable.`)
  return { major, minor }
}

export interface MountPoint {
  path: string
  /** The directory of the file system that is seen there; `/` but for bind mounts. */
  root: string
  fsType: string
  /** `major:minor` */
  deviceNumber: string
}

/** Every mount, in the order in which they were made; those without a disk too. */
export async function mountTable(): Promise<MountPoint[]> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n')
  return lines.flatMap((line) => {
    const [before, after] = line.split(' - ')
    const [, , deviceNumber, root, path] = before?.split(' ') ?? []
    const fsType = after?.split(' ')[0]
    return deviceNumber && root && path && fsType ? [{ path: unescapeOctal(path), root: unescapeOctal(root), fsType, deviceNumber }] : []
  })
}

/** mountinfo escapes blanks as octal. One entry a file system: it is frozen once, however often it is mounted. */
export function parseMountInfo(text: string): Mount[] {
  const mounts = new Map<string, Mount>()
  for (const line of text.split('\n')) {
    const [before, after] = line.split(' - ')
    const [, , deviceNumber, , path] = before?.split(' ') ?? []
    const [fsType, device, superOptions] = after?.split(' ') ?? []
    if (!deviceNumber || !path || !fsType || !device || !device.startsWith('/')) continue
    const readOnly = superOptions?.split(',').includes('ro') ?? false
    if (!mounts.has(deviceNumber))
      mounts.set(deviceNumber, { path: unescapeOctal(path), fsType, device: unescapeOctal(device), readOnly, deviceNumber })
  }
  return [...mounts.values()]
}

/** A btrfs has a number of its own, which is that of no device: the device that it names tells where it is. */
async function onItsDevice(mount: Mount): Promise<Mount> {
  if ((await realpath(`/sys/dev/block/${mount.deviceNumber}`).catch(() => null)) !== null) return mount
  const device = await stat(mount.device).catch(() => null)
  return device?.isBlockDevice() ? { ...mount, deviceNumber: numberOf(device.rdev) } : mount
}

/** As glibc's gnu_dev_major and gnu_dev_minor, for the 32 bits that the kernel gives away. */
function numberOf(rdev: number): string {
  return `${(rdev >>> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >>> 12) & 0xf_ff00)}`
}

function unescapeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}

function innermostFirst(placed: { mount: Mount; depth: number }[]): AgentDisk['mounts'] {
  const sorted = placed.toSorted((a, b) => b.depth - a.depth || b.mount.path.length - a.mount.path.length)
  return sorted.map(({ mount: { path, fsType, device, readOnly } }) => ({ path, fsType, device, readOnly }))
}

/**
 * How a device stands on the disk: through partitions, device mapper, md, and loops over files of a mounted file system. One number a way, which counts the
 * file systems between the two; none when it doesn't.
 */
async function depthsOn(disk: string, deviceNumber: string, mounts: Mount[], depth = 0): Promise<number[]> {
  const directory = await realpath(`/sys/dev/block/${deviceNumber}`).catch(() => null)
  if (directory === null || depth > 8) return []
  const name = basename(directory)
  if (name === disk || basename(dirname(directory)) === disk) return [depth]
  const slaves = await readdir(join(directory, 'slaves')).catch(() => [])
  const below = await Promise.all(
    slaves.map(async (slave) => depthsOn(disk, await readTrimmed(`/sys/class/block/${slave}/dev`), mounts, depth)),
  )
  const backing = await readFile(join(directory, 'loop', 'backing_file'), 'utf8').catch(() => null)
  const outer = backing === null ? undefined : mountOf(backing.trim(), mounts)
  return [...below.flat(), ...(outer ? await depthsOn(disk, outer.deviceNumber, mounts, depth + 1) : [])]
}

function mountOf(path: string, mounts: Mount[]): Mount | undefined {
  const above = mounts.filter((mount) => mount.path === '/' || path === mount.path || path.startsWith(`${mount.path}/`))
  return above.toSorted((a, b) => b.path.length - a.path.length)[0]
}

/** A swap partition or a swap file. */
async function swapsOn(disk: string, path: string, mounts: Mount[]): Promise<boolean> {
  if (!path.startsWith('/')) return false
  const partition = await readTrimmed(`/sys/class/block/${basename(path)}/dev`).catch(() => null)
  const deviceNumber = partition ?? mountOf(path, mounts)?.deviceNumber
  return deviceNumber !== undefined && (await depthsOn(disk, deviceNumber, mounts)).length > 0
}

async function readTrimmed(path: string): Promise<string> {
  return (await readFile(path, 'latin1')).trim()
}

async function serialOf(name: string): Promise<string | null> {
  for (const path of [`/sys/block/${name}/serial`, `/sys/block/${name}/device/serial`]) {
    const serial = await readFile(path, 'utf8').catch(() => '')
    if (serial.trim() !== '') return serial.trim()
  }
  return null
}
