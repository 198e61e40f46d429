/** Whether the first sectors of a disk can boot a machine by BIOS. Reads only. Pure but for `read`. */

const sectorBytes = 512
const codeBytes = 440
/** Where GRUB's first sector keeps the number of the sector with its core image. */
const grubCoreAt = 0x5c

/** `read` gives so many bytes from there. Null when nothing speaks against it; otherwise one sentence. */
export async function bootCodeProblem(read: (offset: number, bytes: number) => Promise<Buffer>): Promise<string | null> {
  const first = await read(0, sectorBytes)
  if (first.readUInt16LE(510) !== 0xaa55) return 'The first sector of the disk has no boot signature, so a BIOS will not boot from it.'
  if (isEmpty(first.subarray(0, codeBytes))) return 'The first sector of the disk holds no boot code, so a BIOS will not boot from it.'
  if (!first.subarray(0, codeBytes).includes('GRUB')) return null
  const core = Number(first.readBigUInt64LE(grubCoreAt))
  if (!Number.isSafeInteger(core * sectorBytes) || isEmpty(await read(core * sectorBytes, sectorBytes)))
    return `GRUB's first sector looks for the rest of it at sector ${core}, where nothing is: run grub-install in the guest.`
  return null
}

function isEmpty(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0)
}
