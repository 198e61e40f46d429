import { open } from 'node:fs/promises'
import { bootCodeProblem } from './boot-code.ts'
import type { FixUpRequest, FixUpStep, Guest } from './fix-up-step.ts'
import { fileSystemAt } from './stable-devices.ts'

/** Where kernels are told their root: GRUB's own file, its entries (Red Hat's "BLS"), and what both are made from at the next upgrade of a kernel. */
const kernelCommandLines = [
  '/boot/grub/grub.cfg',
  '/boot/grub2/grub.cfg',
  '/boot/grub/menu.lst',
  '/boot/grub/grub.conf',
  '/boot/extlinux/extlinux.conf',
  '/etc/default/grub',
  '/etc/kernel/cmdline',
  '/etc/initramfs-tools/conf.d/resume',
]
const entries = '/boot/loader/entries'
const environmentBlock = '/boot/grub2/grubenv'
const environmentBytes = 1_024

/** The kernel finds its root by what lasts; the boot loader itself is looked at, and left as it is. */
export const bootLoader: FixUpStep = {
  name: 'boot-loader',
  async apply(guest, request) {
    const { files } = guest
    const changed: string[] = []
    const nameOf = await namesFor(guest, request)
    const bls = (await files.list(entries)).filter((name) => name.endsWith('.conf')).map((name) => `${entries}/${name}`)
    for (const path of [...kernelCommandLines, ...bls, environmentBlock]) {
      const before = await files.read(path)
      if (before === null) continue
      const { text, replaced } = stableArguments(before, nameOf)
      const sized = path === environmentBlock ? environment(text) : text
      if (sized !== null && (await files.write(path, sized))) changed.push(`${path}: ${replaced.join(', ')}`)
    }
    if (await placeInDeviceMap(guest, request)) changed.push(`/boot/grub/device.map names /dev/${guest.diskName}`)
    const problem = await lookAtBootCode(guest.diskName)
    return { changed, couldNot: problem ? [problem] : [], otherwise: 'the kernel is told its root by a name that lasts' }
  },
}

/** A kernel without an initramfs knows no UUIDs: it gets the name that the device has here. */
async function namesFor({ files, fileSystems }: Guest, { sourceDisk }: FixUpRequest): Promise<(device: string) => string | null> {
  const byUuid = (await files.list('/boot')).some((name) => /^init(rd|ramfs)/.test(name))
  return (device) => {
    const found = fileSystemAt(device, fileSystems, sourceDisk)
    if (!found || (!byUuid && found.device === device)) return null
    return byUuid ? found.uuid && `UUID=${found.uuid}` : found.device
  }
}

/** `root=` and `resume=` of this disk, named so that they last. Pure. */
function stableArguments(text: string, nameOf: (device: string) => string | null): { text: string; replaced: string[] } {
  const replaced: string[] = []
  const changed = text.replaceAll(
    /(^|[\s"'=])(root|resume|RESUME)=(\/dev\/[^\s"']+)/gm,
    (whole, before: string, key: string, device: string) => {
      const name = nameOf(device)
      if (name === null) return whole
      replaced.push(`${key}=${device} is ${name}`)
      return `${before}${key}=${name}`
    },
  )
  return { text: changed, replaced }
}

/** GRUB takes the block only at its exact size, filled up with `#`. Null when it got too long. */
function environment(text: string): string | null {
  const content = text.replace(/#*$/, '')
  return Buffer.byteLength(content) <= environmentBytes
    ? content.padEnd(environmentBytes - Buffer.byteLength(content) + content.length, '#')
    : null
}

/** Only grub-install reads it, and would install onto a disk that is no more. */
async function placeInDeviceMap({ files, diskName }: Guest, { sourceDisk }: FixUpRequest): Promise<boolean> {
  const path = '/boot/grub/device.map'
  const before = await files.read(path)
  if (before === null || sourceDisk === undefined) return false
  return files.write(path, before.replaceAll(new RegExp(`^(\\(hd0\\)\\s+)/dev/${sourceDisk}$`, 'gm'), `$1/dev/${diskName}`))
}

async function lookAtBootCode(diskName: string): Promise<string | null> {
  const disk = await open(`/dev/${diskName}`).catch(() => null)
  if (!disk) return null
  try {
    return await bootCodeProblem(async (offset, bytes) => (await disk.read(Buffer.alloc(bytes), 0, bytes, offset)).buffer)
  } finally {
    await disk.close()
  }
}
