import type { FileSystem } from './file-systems.ts'

/** Names that depend on where a disk is attached. LVM, by-uuid paths and network file systems do not. */
const byPlace = /^\/dev\/(?:[hsv]d[a-z]+\d*|xvd[a-z]+\d*|nvme\d+n\d+(?:p\d+)?)$/
const partitionNumber = /(?:p|[a-z])(\d+)$/

/**
 * fstab with each device of this disk that is named by its place replaced by the UUID of the file system there. The partition's number tells which one, since the
 * disk's own name is what changes. Comments, options and spacing stay. Pure.
 */
export function stableFstab(text: string, fileSystems: FileSystem[]): { text: string; replaced: string[] } {
  const replaced: string[] = []
  const lines = text.split('\n').map((line) => {
    const device = /^\s*(\S+)\s/.exec(line)?.[1]
    if (!device || !byPlace.test(device)) return line
    const number = partitionNumber.exec(device)?.[1]
    const found = fileSystems.filter((fileSystem) => (partitionNumber.exec(fileSystem.device)?.[1] ?? null) === (number ?? null))
    const [only] = found
    if (!only || found.length > 1 || only.uuid === null) return line
    replaced.push(`${device} is UUID=${only.uuid}`)
    return line.replace(device, `UUID=${only.uuid}`)
  })
  return { text: lines.join('\n'), replaced }
}
