/** A whole Debian as debootstrap made it, on a disk of its own: its own tools put into its initramfs what it lacks for a virtio disk. */
import { execFileSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cacheDirectory } from '../../setup/artifacts.ts'
import { fixUpDisk } from '../../src/agents/migration/fix-up/fix-up-disk.ts'
import { attachLoop, detachLoop, type LoopDisk } from './agent-pair.ts'

const tree = join(cacheDirectory(), 'guest-tree', 'tree.tar')
const uuid = '6f1d4c1e-3b0a-4b6e-9a55-0d7d6c0e9b11'
const request = { nics: [{ mac: '52:54:00:12:34:56', name: 'ens3' }], sourceDisk: 'sda' }

describe('a Debian that ran from a SCSI disk', { timeout: 180_000 }, () => {
  let directory: string
  let loop: LoopDisk
  const inside = (script: string) => {
    execFileSync('mount', [loop.path, join(directory, 'mnt')])
    try {
      return execFileSync('sh', ['-ec', script], { cwd: join(directory, 'mnt'), encoding: 'utf8', maxBuffer: 2 ** 26 })
    } finally {
      execFileSync('umount', [join(directory, 'mnt')])
    }
  }
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'portolan-debian-'))
    mkdirSync(join(directory, 'mnt'))
    const image = join(directory, 'disk.img')
    closeSync(openSync(image, 'w'))
    truncateSync(image, 1024 * 1024 * 1024)
    loop = attachLoop(image)
    execFileSync('mkfs.ext4', ['-q', '-U', uuid, '-E', 'lazy_itable_init=1', loop.path])
    inside(`tar xf '${tree}' --exclude './usr/share/doc' --exclude './usr/share/locale'
      echo '/dev/sda / ext4 defaults 0 1' >etc/fstab
      mkdir -p boot/grub; echo 'linux /boot/vmlinuz root=/dev/sda ro' >boot/grub/grub.cfg
      : >usr/share/initramfs-tools/modules.d/small
      chroot . update-initramfs -u`)
  }, 180_000)
  afterAll(() => {
    if (loop) detachLoop(loop)
    rmSync(directory, { recursive: true, force: true })
  })

  test('gets the drivers, a root by UUID and its interface names, once, and nothing stays mounted', async () => {
    expect(inside('chroot . sh -c "lsinitramfs /boot/initrd.img-*"')).not.toContain('virtio_blk.ko')
    const steps = await fixUpDisk(loop.name, request)
    expect(steps.filter(({ changed }) => changed).map(({ step }) => step)).toEqual([
      'fstab-by-uuid',
      'nic-names',
      'initramfs-drivers',
      'boot-loader',
    ])
    expect(inside('chroot . sh -c "lsinitramfs /boot/initrd.img-*"')).toContain('virtio_blk.ko')
    expect(inside('cat etc/fstab boot/grub/grub.cfg')).toBe(`UUID=${uuid} / ext4 defaults 0 1\nlinux /boot/vmlinuz root=UUID=${uuid} ro\n`)
    expect((await fixUpDisk(loop.name, request)).filter(({ changed }) => changed)).toEqual([])
    expect(execFileSync('cat', ['/proc/mounts'], { encoding: 'utf8' })).not.toContain('portolan-root-')
  })

  test('that an agent had mounted which was killed is unmounted first, so that what is written is on the disk at the end', async () => {
    const left = mkdtempSync(join(tmpdir(), 'portolan-root-'))
    execFileSync('mount', [loop.path, left])
    execFileSync('mount', ['-t', 'proc', 'proc', join(left, 'proc')])
    const [root] = await fixUpDisk(loop.name, request)
    expect(root).toMatchObject({ step: 'find-root', detail: expect.stringMatching(/holds the guest's root/) })
    expect(execFileSync('cat', ['/proc/mounts'], { encoding: 'utf8' })).not.toContain(left)
    expect(existsSync(left)).toBe(false)
  })
})
