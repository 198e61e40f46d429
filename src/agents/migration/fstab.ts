import type { FileSystem } from './file-systems.ts'

/** Names that depend on where a disk is attached. LVM, by-uuid paths and network file systems do not. */
const byPlace = /^\/dev\/(?:(?:[hsv]|xv)d[a-z]+(\d*)|nvme\d+n\d+(?:p(\d+))?)$/

/**
 * fstab with each device of this disk that is named by its place replaced by the UUID of the file system there. The partition's number tells which one, since the
 * disk's own name is what changes. Comments, options and spacing stay. Pure.
 */
export function stableFstab(text: string, fileSystems: FileSystem[]): { text: string; replaced: string[] } {
  const replaced: string[] = []
  const lines = text.split('\n').map((line) => {
    const device = /^\s*(\S+)\s/.exec(line)?.[1]
    const place = device ? byPlace.exec(device) : null
    if (!device || !place) return line
    const digits = place[1] || place[2]
    const found = fileSystems.filter(({ partition }) => partition === (digits ? Number(digits) : null))
    const [only] = found
    if (!only || found.length > 1 || only.uuid === null) return line
    replaced.push(`${device} is UUID=${only.uuid}`)
    return line.replace(device, `UUID=${only.uuid}`)
  })
  return { text: lines.join('\n'), replaced }
}
