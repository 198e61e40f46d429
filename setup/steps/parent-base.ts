import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { constants, zstdCompressSync } from 'node:zlib'
import type { BuildStep } from '../build-steps.ts'
import { extractFromTree } from '../extract-from-tree.ts'
import { runCommand } from '../run-command.ts'

const root = resolve(import.meta.dirname, '..', '..', 'guests/parent/root')

/** In the order in which they need each other. ext4 is in the kernel. */
const modules = [
  'virtio',
  'virtio_ring',
  'virtio_pci_legacy_dev',
  'virtio_pci_modern_dev',
  'virtio_pci',
  'virtio_blk',
  'virtio_console',
  'failover',
  'net_failover',
  'virtio_net',
  'virtio-rng',
]

/** `kernel` and `initrd`: what a parent VM boots before its disk. */
export const parentBase: BuildStep = {
  name: 'parent-base',
  what: "the parent VMs' kernel and initramfs",
  inputs: { values: modules, files: [root], steps: ['guest-tree'] },
  async build(directory, { resultOf, signal }) {
    const tree = join(directory, 'tree')
    const image = join(directory, 'root')
    await extractFromTree(resultOf('guest-tree'), ['boot/vmlinuz-*', 'usr/lib/modules/*', 'usr/bin/busybox'], tree, signal)
    cpSync(join(tree, 'boot', readdirSync(join(tree, 'boot'))[0]!), join(directory, 'kernel'))
    for (const path of ['bin', 'dev', 'modules', 'root']) mkdirSync(join(image, path), { recursive: true })
    cpSync(join(tree, 'usr/bin/busybox'), join(image, 'bin/busybox'))
    const available = readdirSync(join(tree, 'usr/lib/modules'), { recursive: true, withFileTypes: true })
    modules.forEach((module, index) => {
      const file = available.find(({ name }) => name === `${module}.ko`)
      if (!file) throw new Error(`Debian's kernel has no module ${module}`)
      cpSync(join(file.parentPath, file.name), join(image, `modules/${String(index).padStart(2, '0')}-${module}.ko`))
    })
    cpSync(root, image, { recursive: true })
    const archive = join(directory, 'archive')
    const pack = 'cd "$1" && find . | "$2" cpio -o -H newc -R 0:0 >"$3"'
    await runCommand('sh', ['-c', pack, 'sh', image, join(tree, 'usr/bin/busybox'), archive], { signal })
    const parameters = { [constants.ZSTD_c_compressionLevel]: 9, [constants.ZSTD_c_checksumFlag]: 0 }
    writeFileSync(join(directory, 'initrd'), zstdCompressSync(readFileSync(archive), { params: parameters }))
    for (const path of [tree, image, archive]) rmSync(path, { recursive: true })
  },
}
