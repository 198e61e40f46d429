/** Which file system a device's name stands for, where that name depends on the place of the disk: on its bus, slot or controller. Pure. */
import type { FileSystem } from '../file-systems.ts'

/** `/dev/sda1`, `/dev/nvme0n1p1`; LVM, UUID, LABEL and network file systems don't depend on the place. */
const byPlace = /^\/dev\/(?:(?:[hsv]|xv)d([a-z])(\d*)|nvme(\d+)n1(?:p(\d+))?)$/
/** Names by path or serial: another controller and another cloud give others. */
const byLink = /^\/dev\/disk\/by-(?:path\/\S+?|id\/(?:ata|scsi|virtio|nvme|usb|ide)-\S+?)(?:-part(\d+))?$/

/** Null when the name lasts, or isn't of this disk, or nothing was found there. */
export function fileSystemAt(device: string, fileSystems: FileSystem[], sourceDisk = 'vda'): FileSystem | null {
  const place = placeOf(device)
  if (!place || (place.disk !== null && place.disk !== placeOf(`/dev/${sourceDisk}`)?.disk)) return null
  const found = fileSystems.filter(({ partition }) => partition === place.partition)
  return found.length === 1 ? found[0]! : null
}

/** The UUID that can stand for `device`; null as above, and where it has none. */
function stableName(device: string, fileSystems: FileSystem[], sourceDisk?: string): string | null {
  const uuid = fileSystemAt(device, fileSystems, sourceDisk)?.uuid
  return uuid ? `UUID=${uuid}` : null
}

/** The disk's position from 0 (null where the name doesn't tell), and the partition (null for the whole disk). */
function placeOf(device: string): { disk: number | null; partition: number | null } | null {
  const numberOf = (digits: string | undefined) => (digits ? Number(digits) : null)
  const place = byPlace.exec(device)
  if (place) {
    const [, letter, partition, nvme, nvmePartition] = place
    const disk = letter === undefined ? Number(nvme) : letter.charCodeAt(0) - 'a'.charCodeAt(0)
    return { disk, partition: numberOf(partition ?? nvmePartition) }
  }
  const link = byLink.exec(device)
  return link ? { disk: null, partition: numberOf(link[1]) } : null
}

/**
 * A table such as fstab (device in column 0) or crypttab (column 1) with each device of this disk that is named by its place replaced by its UUID. Comments, options
 * and spacing stay.
 */
export function stableTable(
  text: string,
  column: 0 | 1,
  fileSystems: FileSystem[],
  sourceDisk?: string,
): { text: string; replaced: string[]; left: string[] } {
  const replaced: string[] = []
  const left: string[] = []
  const lines = text.split('\n').map((line) => {
    const [, before = '', device = ''] = (column === 0 ? /^(\s*)([^\s#]\S*)(?=\s)/ : /^(\s*[^\s#]\S*\s+)(\S+)/).exec(line) ?? []
    if (!placeOf(device)) return line
    const name = stableName(device, fileSystems, sourceDisk)
    if (name === null) {
      left.push(device)
      return line
    }
    replaced.push(`${device} is ${name}`)
    return `${before}${name}${line.slice(before.length + device.length)}`
  })
  return { text: lines.join('\n'), replaced, left }
}

/** What fstab mounts below the root that the guest's tools need to be there, and that is on this disk; outer ones first. */
export function otherMounts(fstab: string, fileSystems: FileSystem[]): { path: string; fileSystem: FileSystem }[] {
  const found = fstab.split('\n').flatMap((line) => {
    const [device = '', path = ''] = line.trim().split(/\s+/)
    if (!/^\/(boot|usr|var|boot\/efi)$/.test(path)) return []
    const name = stableName(device, fileSystems) ?? device.replaceAll('"', '')
    const fileSystem = fileSystems.find(
      ({ uuid, label }) => (uuid !== null && name === `UUID=${uuid}`) || (label !== null && name === `LABEL=${label}`),
    )
    return fileSystem ? [{ path, fileSystem }] : []
  })
  return found.toSorted((a, b) => a.path.length - b.path.length)
}
