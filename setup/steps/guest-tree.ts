import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { BuildStep } from '../build-steps.ts'
import { runInMountNamespace } from '../run-in-mount-namespace.ts'

const script = resolve(import.meta.dirname, '..', 'guest-tree.sh')
const overlay = resolve(import.meta.dirname, '..', '..', 'guests', 'tree')

/** Installed beside Debian's minimal base. */
const packages = [
  // boots, with a serial console and a network
  'linux-image-cloud-amd64',
  'initramfs-tools',
  'zstd',
  'systemd-sysv',
  'udev',
  'kmod',
  'iproute2',
  'netbase',
  // can be logged in to, and administered
  'openssh-server',
  'e2fsprogs',
  'util-linux',
  'procps',
  'less',
  'vim-tiny',
  // the workload
  'python3',
  // the peers that the bench compares with
  'rsync',
  'nbdkit',
  'libnbd-bin',
  // the tiny guest's and the landing image's userland, and a library for the agent's Node; the images drop what they don't use
  'busybox-static',
  'libatomic1',
]

/** `tree.tar`: the root file system of Debian 12, configured, with root's ownership. Images are made from it. */
export const guestTree: BuildStep = {
  name: 'guest-tree',
  what: 'a Debian 12 system with debootstrap',
  inputs: { values: packages, files: [script, overlay] },
  async build(directory, { cache, signal }) {
    const debs = join(cache, 'debs')
    mkdirSync(debs, { recursive: true })
    await runInMountNamespace(script, [debs, packages.join(','), overlay, join(directory, 'tree.tar')], directory, signal)
  },
}
