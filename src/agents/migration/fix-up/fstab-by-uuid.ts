import type { FixUpStep } from './fix-up-step.ts'
import { stableTable } from './stable-devices.ts'

/** A disk may be called otherwise on another bus: in fstab (swap too) and crypttab `/dev/sda1` becomes its UUID. LABEL, UUID and LVM names last, and stay. */
export const fstabByUuid: FixUpStep = {
  name: 'fstab-by-uuid',
  async apply({ files, fileSystems }, { sourceDisk }) {
    const changed: string[] = []
    const couldNot: string[] = []
    for (const [path, column] of [
      ['/etc/fstab', 0],
      ['/etc/crypttab', 1],
    ] as const) {
      const before = await files.read(path)
      if (before === null) continue
      const { text, replaced, left } = stableTable(before, column, fileSystems, sourceDisk)
      if (await files.write(path, text)) changed.push(...replaced)
      couldNot.push(...left.map((device) => `${path} names ${device}, and no single file system of the copied disk is known to be that.`))
    }
    return { changed, couldNot, otherwise: 'no entry names a device by its place' }
  },
}
