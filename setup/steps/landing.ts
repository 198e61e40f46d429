import {
  appendFileSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import { constants, zstdCompressSync } from 'node:zlib'
import type { BuildStep } from '../build-steps.ts'
import { extractFromTree } from '../extract-from-tree.ts'
import { cpioArchive } from '../../src/plugin-sdk/landing-initrd.ts'
import { runCommand } from '../run-command.ts'

const guests = resolve(import.meta.dirname, '..', '..', 'guests')

/** In the order in which they need each other. */
const modules = [
  'virtio',
  'virtio_ring',
  'virtio_pci_legacy_dev',
  'virtio_pci_modern_dev',
  'virtio_pci',
  'virtio_blk',
  'failover',
  'net_failover',
  'virtio_net',
  'virtio-rng',
  'button',
  'evdev',
]

/** Inserted when a copied guest's root asks for them: they take memory. ext4 is in the kernel. */
const fileSystemModules = ['libcrc32c', 'xfs']

/** Where the file system tools find their libraries. */
const systemLibraries = 'lib/x86_64-linux-gnu'
/** The C library, and what the file system tools need. */
const libraries = [
  'libc.so.6',
  'libm.so.6',
  'libdl.so.2',
  'libpthread.so.0',
  'ld-linux-x86-64.so.2',
  'libext2fs.so.2*',
  'libcom_err.so.2*',
  'libblkid.so.1*',
  'libuuid.so.1*',
  'libe2p.so.2*',
]
const programs = ['usr/bin/busybox', 'usr/bin/chattr', 'usr/sbin/e2fsck', 'usr/sbin/tune2fs', 'usr/sbin/blkid']

/** `kernel`, and `base.cpio.zst`: the landing image's initramfs but for the agent. */
export const landingBase: BuildStep = {
  name: 'landing-base',
  what: "the landing image's system",
  inputs: {
    values: [...modules, ...fileSystemModules, ...libraries, ...programs],
    files: [join(guests, 'landing'), join(guests, 'shared')],
    steps: ['guest-tree', 'agent-runtime'],
  },
  async build(directory, { resultOf, signal }) {
    const tree = join(directory, 'tree')
    const root = join(directory, 'root')
    const patterns = ['boot/vmlinuz-*', 'usr/lib/modules/*', ...programs, ...libraries.map((name) => `usr/${systemLibraries}/${name}`)]
    await extractFromTree(resultOf('guest-tree'), patterns, tree, signal)
    cpSync(join(tree, 'boot', readdirSync(join(tree, 'boot'))[0]!), join(directory, 'kernel'))
    layOut(tree, root)
    for (const name of ['node', 'lib', 'run'])
      cpSync(join(resultOf('agent-runtime'), name), join(root, 'opt/portolan', name), { recursive: true })
    // All in RAM: the agent's C library, from the same tree, is not there twice.
    const own = join(root, 'opt/portolan/lib')
    for (const name of readdirSync(own).filter((file) => existsSync(join(root, systemLibraries, file)))) {
      rmSync(join(own, name))
      symlinkSync(join('/', systemLibraries, name), join(own, name))
    }
    // The archive's owners are root whoever runs this; busybox's cpio is the one that is surely here.
    const archive = join(directory, 'base.cpio')
    const pack = 'cd "$1" && find . | "$2" cpio -o -H newc -R 0:0 >"$3"'
    await runCommand('sh', ['-c', pack, 'sh', root, join(tree, 'usr/bin/busybox'), archive], { signal })
    const parameters = { [constants.ZSTD_c_compressionLevel]: 9, [constants.ZSTD_c_nbWorkers]: 2, [constants.ZSTD_c_checksumFlag]: 0 }
    writeFileSync(`${archive}.zst`, zstdCompressSync(readFileSync(archive), { params: parameters }))
    for (const path of [tree, root, archive]) rmSync(path, { recursive: true })
  },
}

/** Arranges what was taken from the Debian tree, and our own scripts, as the image's root. */
function layOut(tree: string, root: string): void {
  mkdirSync(join(root, 'bin'), { recursive: true })
  mkdirSync(join(root, 'lib64'))
  mkdirSync(join(root, 'modules/file-systems'), { recursive: true })
  cpSync(join(tree, 'usr/bin/busybox'), join(root, 'bin/busybox'))
  for (const program of programs.slice(1)) cpSync(join(tree, program), join(root, program.replace('usr/', '')))
  cpSync(join(tree, 'usr', systemLibraries), join(root, systemLibraries), { recursive: true, verbatimSymlinks: true })
  cpSync(join(tree, 'usr', systemLibraries, 'ld-linux-x86-64.so.2'), join(root, 'lib64/ld-linux-x86-64.so.2'))
  const available = readdirSync(join(tree, 'usr/lib/modules'), { recursive: true, withFileTypes: true })
  const place = (directory: string) => (module: string, index: number) => {
    const file = available.find(({ name }) => name === `${module}.ko`)
    if (!file) throw new Error(`Debian's kernel has no module ${module}`)
    cpSync(join(file.parentPath, file.name), join(root, directory, `${String(index).padStart(2, '0')}-${module}.ko`))
  }
  modules.forEach(place('modules'))
  fileSystemModules.forEach(place('modules/file-systems'))
  for (const script of ['dhcp', 'udhcpc-script']) cpSync(join(guests, 'shared', script), join(root, 'usr/local/lib/guest', script))
  cpSync(join(guests, 'landing/root'), root, { recursive: true })
}

/** `kernel` and `initrd`: what a destination boots while its disks are filled. */
export const landing: BuildStep = {
  name: 'landing',
  what: 'the landing image',
  inputs: { steps: ['landing-base', 'agent-bundle'], files: [resolve(import.meta.dirname, '../../src/plugin-sdk/landing-initrd.ts')] },
  async build(directory, { resultOf }) {
    linkSync(join(resultOf('landing-base'), 'kernel'), join(directory, 'kernel'))
    const initrd = join(directory, 'initrd')
    cpSync(join(resultOf('landing-base'), 'base.cpio.zst'), initrd)
    // The kernel takes concatenated archives, an uncompressed one at a multiple of 4.
    const agent = readFileSync(join(resultOf('agent-bundle'), 'agent.mjs'), 'utf8')
    appendFileSync(initrd, Buffer.alloc(-statSync(initrd).size & 511))
    appendFileSync(initrd, cpioArchive([{ path: '/opt/portolan/agent.mjs', content: agent, mode: 0o644 }]))
  },
}
