/** The Debian packages that demo, tests and bench run on, and their installation where apt-get is. */
import { accessSync, constants, existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { runCommand } from './run-command.ts'

export interface SystemPackage {
  name: string
  why: string
  /** A command on the path, or an absolute path, that is there once the package is. */
  probe: string
}

export const systemPackages: readonly SystemPackage[] = [
  { name: 'qemu-system-x86', probe: 'qemu-system-x86_64', why: 'runs the virtual machines' },
  { name: 'qemu-utils', probe: 'qemu-img', why: 'makes overlays of disks and compares images' },
  { name: 'libvirt-daemon', probe: 'libvirtd', why: 'the daemon of the second cloud' },
  {
    name: 'libvirt-daemon-driver-qemu',
    probe: '/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so',
    why: "the daemon's virtual machines",
  },
  { name: 'libvirt-daemon-system', probe: '/etc/libvirt/qemu.conf', why: "the daemon's users, directories and networks" },
  { name: 'libvirt-clients', probe: 'virsh', why: 'talks to the daemon' },
  { name: 'dnsmasq-base', probe: 'dnsmasq', why: "answers DHCP in the second cloud's networks" },
  { name: 'iproute2', probe: 'ip', why: 'sets up the private network of demo and tests' },
  { name: 'debootstrap', probe: 'debootstrap', why: 'builds the Debian guest' },
  {
    name: 'debian-archive-keyring',
    probe: '/usr/share/keyrings/debian-archive-keyring.gpg',
    why: "checks the signatures of the guest's packages",
  },
  { name: 'grub-common', probe: 'grub-mkimage', why: "makes the guest's boot loader" },
  { name: 'grub-pc-bin', probe: '/usr/lib/grub/i386-pc/boot.img', why: 'the parts of the boot loader' },
  { name: 'e2fsprogs', probe: 'mke2fs', why: "makes the guest's file system" },
  { name: 'binutils', probe: 'strip', why: 'makes the Node that is sent into guests smaller' },
  { name: 'openssh-client', probe: 'ssh-keygen', why: "makes the guest's keys" },
  { name: 'rsync', probe: 'rsync', why: 'the bench compares with it' },
  { name: 'libnbd-bin', probe: 'nbdcopy', why: 'the bench compares with it' },
  { name: 'nbdkit', probe: 'nbdkit', why: 'serves disks to nbdcopy in the bench' },
]

/** Only a machine that runs the tests needs these as well. */
export const testPackages: readonly SystemPackage[] = [
  { name: 'python3', probe: 'python3', why: "runs the guest's workload outside a guest" },
  { name: 'chromium', probe: 'chromium', why: 'the browser in which the tests click through GraphiQL' },
]

export interface PackageSystem {
  /** Whether a package's probe (a command or an absolute path) is there. */
  has(probe: string): boolean
  run(command: string, args: readonly string[]): Promise<unknown>
}

/**
 * Installs what is missing of `packages`, saying what and why. Throws an Error with one sentence that lists the packages where there is no apt-get,
 * and the installer's own words where it fails.
 */
export async function ensurePackages(
  packages: readonly SystemPackage[],
  { log, system = thisSystem }: { log: (line: string) => void; system?: PackageSystem },
): Promise<void> {
  const missing = packages.filter(({ probe }) => !system.has(probe))
  if (missing.length === 0) return
  const names = missing.map(({ name }) => name)
  if (!system.has('apt-get'))
    throw new Error(
      `This machine has no apt-get: install what Debian calls ${names.join(', ')} with your own package manager, then run the same command again.`,
    )
  log('installing Debian packages with apt-get:')
  for (const { name, why } of missing) log(`  ${name}: ${why}`)
  const elevated = process.getuid?.() === 0 ? [] : ['sudo']
  const apt = (...args: string[]) => {
    const command = [...elevated, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-q', ...args]
    return system.run(command[0]!, command.slice(1))
  }
  // One broken repository of the user's fails the update, though the packages may well be found without it: the installation decides.
  await apt('update').catch((error: unknown) => log(`going on with the package lists there are: ${String(error)}`))
  await apt('install', '-y', '--no-install-recommends', ...names)
  const stillMissing = packages.filter(({ probe }) => !system.has(probe))
  if (stillMissing.length > 0)
    throw new Error(
      `apt-get installed ${names.join(', ')}, but ${stillMissing.map(({ name, probe }) => `${probe} (of ${name})`).join(', ')} is still missing. Install a package that has it, then run the same command again.`,
    )
}

const thisSystem: PackageSystem = {
  has(probe) {
    if (probe.startsWith('/')) return existsSync(probe)
    // Root's programs count as well when the path of an ordinary user lacks them.
    const directories = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin']
    return directories.some((directory) => isExecutable(join(directory, probe)))
  },
  run: (command, args) => runCommand(command, args),
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
