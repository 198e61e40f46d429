/** What a guest needs to boot: initramfs, boot loader, labels. Trees of both families, in the formats of their tools; archives made by the real ones. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { bootCodeProblem } from '../../src/agents/migration/fix-up/boot-code.ts'
import { bootLoader } from '../../src/agents/migration/fix-up/boot-loader.ts'
import { initramfsDrivers } from '../../src/agents/migration/fix-up/initramfs-drivers.ts'
import { initramfsNames } from '../../src/agents/migration/fix-up/initramfs-names.ts'
import { selinuxLabels } from '../../src/agents/migration/fix-up/selinux-labels.ts'
import { plantTree, type GuestTree } from './fix-up-tree.ts'

const uuid = '6f1d4c1e-3b0a-4b6e-9a55-0d7d6c0e9b11'
const request = { nics: [], sourceDisk: 'sda' }
let tree: GuestTree
afterEach(() => tree.remove())

/** As the tools make them: microcode in a plain archive first, then the rest, compressed. */
function initramfs(modules: string[], compress: string, { early = true } = {}): Buffer {
  const work = plantTree({ 'early/kernel/x86/microcode/GenuineIntel.bin': 'x'.repeat(4_097), 'main/init': '#!/bin/sh\n' })
  try {
    for (const name of modules) work.put({ [`main/usr/lib/modules/6.1.0/kernel/drivers/${name}`]: 'ELF'.repeat(100) })
    const pack = (directory: string, filter: string) =>
      execFileSync('sh', ['-ec', `cd ${directory} && find . | cpio -o -H newc --quiet | ${filter}`], {
        cwd: work.directory,
        maxBuffer: 2 ** 24,
      })
    return Buffer.concat([early ? Buffer.concat([pack('early', 'cat'), Buffer.alloc(512)]) : Buffer.alloc(0), pack('main', compress)])
  } finally {
    work.remove()
  }
}

async function namesIn(content: Buffer): Promise<string[]> {
  tree = plantTree({ initrd: content })
  return Array.fromAsync(initramfsNames(join(tree.directory, 'initrd')))
}

describe('an initramfs', () => {
  test.each(['cat', 'gzip', 'zstd -q -3', 'xz --check=crc32', 'bzip2', 'lzma'])('is read where it was made by %s', async (compress) => {
    const names = await namesIn(initramfs(['block/virtio_blk.ko.xz'], compress))
    expect(names).toContain('kernel/x86/microcode/GenuineIntel.bin')
    expect(names).toContain('usr/lib/modules/6.1.0/kernel/drivers/block/virtio_blk.ko.xz')
  })
  test('of another compression is said to be that', async () => {
    await expect(namesIn(Buffer.from('02214c18aabbccdd', 'hex'))).rejects.toThrow('not known here')
  })
  test('that is cut short or damaged ends with a sentence, whatever its sizes say', async () => {
    const whole = initramfs(['block/virtio_blk.ko'], 'cat', { early: false })
    await expect(namesIn(whole.subarray(0, whole.length / 2 + 1))).rejects.toThrow('damaged')
    tree.remove()
    // The length of the first name: 4 GiB.
    await expect(namesIn(Buffer.concat([whole.subarray(0, 94), Buffer.from('ffffffff'), whole.subarray(102)]))).rejects.toThrow('damaged')
  })
})

const modules = 'lib/modules/6.1.0/modules.dep'
const dep = 'kernel/drivers/block/virtio_blk.ko.xz:\nkernel/drivers/virtio/virtio_pci.ko.xz:\nkernel/fs/ext4/ext4.ko.xz:\n'
const complete = ['block/virtio_blk.ko', 'virtio/virtio_pci.ko', 'ext4/ext4.ko']

describe('drivers in the initramfs', () => {
  test('of a guest that ran from a virtio disk are not looked for', async () => {
    tree = plantTree({ [modules]: dep, 'boot/initrd.img-6.1.0': 'garbage' })
    expect(await initramfsDrivers.apply(tree.guest, { nics: [], sourceDisk: 'vda' })).toEqual({
      changed: [],
      otherwise: expect.stringContaining('virtio disk already'),
    })
  })

  test('that are all there, or built into the kernel, need nothing', async () => {
    const builtin = { 'lib/modules/6.1.0/modules.builtin': 'kernel/fs/ext4/ext4.ko\n' }
    tree = plantTree({ [modules]: dep, ...builtin, 'boot/initrd.img-6.1.0': initramfs(complete.slice(0, 2), 'zstd -q') })
    expect((await initramfsDrivers.apply(tree.guest, request)).changed).toEqual([])
    expect(tree.ran).toEqual([])
  })

  test('of Debian are added by update-initramfs, and stay for the next kernel', async () => {
    tree = plantTree({
      [modules]: dep,
      'usr/sbin/update-initramfs': '',
      'etc/initramfs-tools/modules': '# mine\nvirtio_pci\n',
      'boot/initrd.img-6.1.0': initramfs([], 'gzip'),
    })
    answerWith(() => tree.put({ 'boot/initrd.img-6.1.0': initramfs(complete, 'gzip') }))
    const { changed } = await initramfsDrivers.apply(tree.guest, request)
    expect(changed).toEqual(['/boot/initrd.img-6.1.0 has virtio_blk and virtio_pci and ext4 now'])
    expect(tree.ran).toEqual([['update-initramfs', '-u', '-k', '6.1.0']])
    expect(tree.read('etc/initramfs-tools/modules')).toBe('# mine\nvirtio_pci\nvirtio_blk\next4\n')
    expect((await initramfsDrivers.apply(tree.guest, request)).changed).toEqual([])
  })

  test("of Red Hat's family are added by dracut, and the rescue image is left alone", async () => {
    tree = plantTree({
      [modules]: dep,
      'usr/bin/dracut': '',
      'boot/initramfs-6.1.0.img': initramfs([], 'xz --check=crc32'),
      'boot/initramfs-0-rescue-abc.img': 'x',
    })
    answerWith(() => tree.put({ 'boot/initramfs-6.1.0.img': initramfs(complete, 'xz --check=crc32') }))
    expect((await initramfsDrivers.apply(tree.guest, request)).changed).toHaveLength(1)
    expect(tree.ran).toEqual([['dracut', '--force', '/boot/initramfs-6.1.0.img', '6.1.0']])
    expect(tree.read('etc/dracut.conf.d/portolan.conf')).toContain('add_drivers+=" virtio_blk virtio_pci ext4 "')
  })

  test('that can not be added are said, with the reason', async () => {
    tree = plantTree({ [modules]: dep, 'boot/initrd.img-6.1.0': initramfs([], 'gzip') })
    expect((await initramfsDrivers.apply(tree.guest, request)).couldNot).toEqual([
      expect.stringContaining('neither update-initramfs nor dracut'),
    ])
    tree.put({ 'usr/sbin/update-initramfs': '' })
    expect((await initramfsDrivers.apply(tree.guest, request)).couldNot).toEqual([expect.stringContaining('made it anew without them')])
    tree.put({ [modules]: 'kernel/drivers/block/virtio_blk.ko.xz:\n' })
    expect((await initramfsDrivers.apply(tree.guest, request)).couldNot).toEqual([expect.stringContaining('has no driver virtio_pci')])
  })
})

/** The guest's tool does that. */
function answerWith(work: () => void): void {
  const run = tree.guest.run.bind(tree.guest)
  tree.guest.run = async (program, args, timeoutMs) => {
    work()
    return run(program, args, timeoutMs)
  }
}

describe('the boot loader', () => {
  test('of Debian is told the root by UUID, twice the same', async () => {
    const menu = `menuentry 'Debian' {\n\tsearch --fs-uuid --set=root ${uuid}\n\tlinux /boot/vmlinuz-6.1.0 root=/dev/sda1 ro quiet\n\tinitrd /boot/initrd.img-6.1.0\n}\n`
    tree = plantTree({
      'boot/grub/grub.cfg': menu,
      'boot/initrd.img-6.1.0': '',
      'boot/grub/device.map': '(hd0)\t/dev/sda\n',
      'etc/default/grub': 'GRUB_CMDLINE_LINUX="root=/dev/sda1 resume=/dev/sdb2"\n',
    })
    expect((await bootLoader.apply(tree.guest, request)).changed).toHaveLength(3)
    expect(tree.read('boot/grub/grub.cfg')).toBe(menu.replace('/dev/sda1', `UUID=${uuid}`))
    expect(tree.read('etc/default/grub')).toBe(`GRUB_CMDLINE_LINUX="root=UUID=${uuid} resume=/dev/sdb2"\n`)
    expect(tree.read('boot/grub/device.map')).toBe('(hd0)\t/dev/vda\n')
    expect((await bootLoader.apply(tree.guest, request)).changed).toEqual([])
  })

  test("of Red Hat's family: entries, and the environment block keeps its size", async () => {
    const block = '# GRUB Environment Block\nsaved_entry=abc\nkernelopts=root=/dev/sda1 ro\n'.padEnd(1_024, '#')
    const entry = 'title Linux\nlinux /vmlinuz-6.1.0\ninitrd /initramfs-6.1.0.img\noptions root=/dev/sda1 ro crashkernel=auto\n'
    tree = plantTree({
      'boot/grub2/grubenv': block,
      'boot/loader/entries/abc-6.1.0.conf': entry,
      'boot/initramfs-6.1.0.img': '',
      'etc/kernel/cmdline': 'root=/dev/mapper/vg-root ro\n',
    })
    expect((await bootLoader.apply(tree.guest, request)).changed).toHaveLength(2)
    expect(tree.read('boot/loader/entries/abc-6.1.0.conf')).toContain(`options root=UUID=${uuid} ro crashkernel=auto\n`)
    const after = tree.read('boot/grub2/grubenv')
    expect(after).toHaveLength(1_024)
    expect(after).toMatch(new RegExp(`kernelopts=root=UUID=${uuid} ro\n#+$`))
    expect(tree.read('etc/kernel/cmdline')).toBe('root=/dev/mapper/vg-root ro\n')
  })

  test('of a kernel without an initramfs, which knows no UUIDs, gets the name of the device here', async () => {
    tree = plantTree({ 'boot/grub/grub.cfg': 'linux /boot/bzImage root=/dev/sda1\n' })
    await bootLoader.apply(tree.guest, request)
    expect(tree.read('boot/grub/grub.cfg')).toBe('linux /boot/bzImage root=/dev/vda1\n')
    expect((await bootLoader.apply(tree.guest, request)).changed).toEqual([])
  })
})

describe('the first sectors', () => {
  const disk = (change: (sectors: Buffer) => void) => {
    const sectors = Buffer.alloc(8 * 512)
    readFileSync('/usr/lib/grub/i386-pc/boot.img').copy(sectors, 0, 0, 440)
    sectors.writeUInt16LE(0xaa55, 510)
    sectors.fill(1, 512)
    change(sectors)
    return bootCodeProblem(async (offset, bytes) => sectors.subarray(offset, offset + bytes))
  }
  test('with GRUB and its core boot', async () => {
    tree = plantTree({})
    expect(await disk(() => {})).toBeNull()
    expect(await disk((sectors) => sectors.fill(0, 512))).toContain('at sector 1, where nothing is')
    expect(await disk((sectors) => sectors.fill(0, 0, 440))).toContain('no boot code')
    expect(await disk((sectors) => sectors.fill(0, 510, 512))).toContain('no boot signature')
  })
})

describe('SELinux', () => {
  const config = { 'etc/selinux/config': '# comment\nSELINUX=enforcing\nSELINUXTYPE=targeted\n' }
  test("new files get their labels by the guest's own tool", async () => {
    tree = plantTree(config)
    await tree.guest.files.write('/etc/systemd/network/00-portolan-eth0.link', 'x')
    expect((await selinuxLabels.apply(tree.guest, request)).changed).toHaveLength(1)
    expect(tree.ran).toEqual([
      ['setfiles', '-F', '/etc/selinux/targeted/contexts/files/file_contexts', '/etc/systemd/network/00-portolan-eth0.link'],
    ])
  })
  test('or everything gets it anew at the boot', async () => {
    tree = plantTree(config)
    tree.guest.run = async () => {
      throw new Error('setfiles failed')
    }
    await tree.guest.files.write('/etc/x', 'x')
    expect((await selinuxLabels.apply(tree.guest, request)).couldNot).toEqual([expect.stringContaining('setfiles failed')])
    expect(tree.read('.autorelabel')).toBe('')
  })
  test('without it, or without new files, there is nothing to do', async () => {
    tree = plantTree(config)
    expect((await selinuxLabels.apply(tree.guest, request)).changed).toEqual([])
    tree.put({ 'etc/selinux/config': 'SELINUX=disabled\n' })
    await tree.guest.files.write('/etc/x', 'x')
    expect((await selinuxLabels.apply(tree.guest, request)).changed).toEqual([])
    expect(tree.ran).toEqual([])
  })
})
