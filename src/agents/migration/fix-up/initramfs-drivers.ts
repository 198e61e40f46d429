import type { FixUpStep, Guest } from './fix-up-step.ts'
import { initramfsNames } from './initramfs-names.ts'

const initramfsOf = (version: string) => [`/boot/initrd.img-${version}`, `/boot/initramfs-${version}.img`, `/boot/initrd-${version}`]
const toolTimeoutMs = 180_000

/**
 * The disk is a virtio disk in the new place: the initramfs needs its drivers, and that of the root's file system, to find the root. A guest that ran from a virtio disk has
 * them. Otherwise each kernel's initramfs is looked into, and where something is missing made anew by the guest's own tools.
 */
export const initramfsDrivers: FixUpStep = {
  name: 'initramfs-drivers',
  async apply(guest, { sourceDisk }) {
    if (sourceDisk?.startsWith('vd')) return { changed: [], otherwise: 'the guest ran from a virtio disk already' }
    const changed: string[] = []
    const couldNot: string[] = []
    const wanted = ['virtio_blk', 'virtio_pci', guest.rootFileSystem.type.replace(/^ext[23]$/, 'ext4')]
    const kernels = await kernelsWithInitramfs(guest)
    for (const { version, path } of kernels) {
      const missing = await missingDrivers(guest, version, path, wanted)
      if (missing.length === 0) continue
      const problem = await makeAnew(guest, version, path, missing)
      if (problem) couldNot.push(`${path} lacks ${missing.join(' and ')}: ${problem}.`)
      else changed.push(`${path} has ${missing.join(' and ')} now`)
    }
    const otherwise =
      kernels.length === 0 ? 'no initramfs in /boot belongs to a kernel: it has its drivers built in' : 'each initramfs has what it needs'
    return { changed, couldNot, otherwise }
  },
}

async function kernelsWithInitramfs({ files }: Guest): Promise<{ version: string; path: string }[]> {
  const found: { version: string; path: string }[] = []
  for (const version of await files.list('/lib/modules')) {
    for (const path of initramfsOf(version)) if (await files.exists(path)) found.push({ version, path })
  }
  return found
}

/** Drivers that are built into the kernel are nowhere else. Throws Error for an initramfs that can't be read. */
async function missingDrivers({ files }: Guest, version: string, path: string, wanted: string[]): Promise<string[]> {
  const builtin = (await files.read(`/lib/modules/${version}/modules.builtin`)) ?? ''
  const missing = new Set(wanted.filter((driver) => !builtin.includes(`/${driver}.ko`)))
  if (missing.size === 0) return []
  try {
    for await (const name of initramfsNames(await files.resolve(path))) {
      for (const driver of missing) if (new RegExp(`(^|[/-])${driver}\\.ko(\\.(gz|xz|zst))?$`).test(name)) missing.delete(driver)
      if (missing.size === 0) return []
    }
  } catch (error) {
    throw new Error(`${path} could not be looked into: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
  return [...missing]
}

/** Null once it has them; otherwise why not, as the end of a sentence. */
async function makeAnew(guest: Guest, version: string, path: string, missing: string[]): Promise<string | null> {
  const { files } = guest
  const known = (await files.read(`/lib/modules/${version}/modules.dep`)) ?? ''
  const unknown = missing.filter((driver) => known !== '' && !known.includes(`/${driver}.ko`))
  if (unknown.length > 0) return `the kernel ${version} has no driver ${unknown.join(' and ')}`
  const tool = await toolOf(guest)
  if (!tool) return 'the guest has neither update-initramfs nor dracut to make it anew'
  await tool.configure(missing)
  try {
    await guest.run(tool.program, tool.args(version, path), toolTimeoutMs)
  } catch (error) {
    return `making it anew did not work (${error instanceof Error ? error.message : String(error)})`
  }
  // The tool made another file in its place.
  files.created.push(path)
  const still = await missingDrivers(guest, version, path, missing)
  return still.length === 0 ? null : `${tool.program} made it anew without them`
}

interface InitramfsTool {
  program: string
  args(version: string, path: string): string[]
  /** So that the next one, made by an upgrade of the kernel, has them as well. */
  configure(drivers: string[]): Promise<unknown>
}

async function toolOf({ files }: Guest): Promise<InitramfsTool | null> {
  if (await files.exists('/usr/sbin/update-initramfs')) {
    const path = '/etc/initramfs-tools/modules'
    return {
      program: 'update-initramfs',
      args: (version) => ['-u', '-k', version],
      async configure(drivers) {
        const before = (await files.read(path)) ?? ''
        const missing = drivers.filter((driver) => !before.split('\n').includes(driver))
        return files.write(path, [before.trimEnd(), ...missing, ''].join('\n').trimStart())
      },
    }
  }
  if (!(await files.exists('/usr/bin/dracut')) && !(await files.exists('/sbin/dracut'))) return null
  return {
    program: 'dracut',
    args: (version, path) => ['--force', path, version],
    configure: (drivers) =>
      files.write('/etc/dracut.conf.d/portolan.conf', `# Written when this machine was moved.\nadd_drivers+=" ${drivers.join(' ')} "\n`),
  }
}
