import { describe, expect, test } from 'vitest'
import { parseMountInfo } from '../../src/agents/migration/block-devices.ts'
import type { FileSystem } from '../../src/agents/migration/file-systems.ts'
import { linkFiles, udevRules } from '../../src/agents/migration/fix-up/nic-names.ts'
import { otherMounts, stableTable } from '../../src/agents/migration/fix-up/stable-devices.ts'

const fileSystems: FileSystem[] = [
  { device: '/dev/vda1', partition: 1, type: 'ext4', uuid: 'aaaa-1', label: 'root' },
  { device: '/dev/vda2', partition: 2, type: 'ext4', uuid: 'eeee-2', label: 'boot' },
  { device: '/dev/vda5', partition: 5, type: 'swap', uuid: 'bbbb-5', label: null },
]
const fstab = (text: string, known = fileSystems, sourceDisk?: string) => stableTable(text, 0, known, sourceDisk)

describe('fstab', () => {
  test('names file systems by UUID where it named them by place, and keeps everything else', () => {
    const { text, replaced, left } = fstab(
      '# /dev/sda1 was here\n/dev/sda1\t/ ext4 defaults 0 1\n/dev/sda5 none swap sw 0 0\nUUID=cccc /x ext4 defaults 0 0\nLABEL=data /y ext4 defaults 0 0\n/dev/mapper/vg-home /home ext4 defaults 0 2\n',
    )
    expect(text).toBe(
      '# /dev/sda1 was here\nUUID=aaaa-1\t/ ext4 defaults 0 1\nUUID=bbbb-5 none swap sw 0 0\nUUID=cccc /x ext4 defaults 0 0\nLABEL=data /y ext4 defaults 0 0\n/dev/mapper/vg-home /home ext4 defaults 0 2\n',
    )
    expect(replaced).toEqual(['/dev/sda1 is UUID=aaaa-1', '/dev/sda5 is UUID=bbbb-5'])
    expect(left).toEqual([])
  })

  test('of NVMe names, takes the number behind the p', () => {
    expect(fstab('/dev/nvme0n1p1 / ext4 defaults 0 1\n').text).toBe('UUID=aaaa-1 / ext4 defaults 0 1\n')
  })

  test('knows names by path and by serial, which another controller changes', () => {
    expect(fstab('/dev/disk/by-path/pci-0000:00:04.0-part1 / ext4 defaults 0 1\n').text).toBe('UUID=aaaa-1 / ext4 defaults 0 1\n')
    expect(fstab('/dev/disk/by-id/ata-QEMU_HARDDISK_QM00001-part5 none swap sw 0 0\n').text).toBe('UUID=bbbb-5 none swap sw 0 0\n')
    expect(fstab('/dev/disk/by-id/dm-name-vg-root / ext4 defaults 0 1\n').replaced).toEqual([])
  })

  test('knows a whole disk from its partition', () => {
    const whole = [{ device: '/dev/vda', partition: null, type: 'ext4', uuid: 'dddd', label: null }]
    expect(fstab('/dev/nvme0n1 /a ext4 defaults 0 1\n/dev/xvda /b ext4 defaults 0 1\n/dev/sda1 /c ext4 defaults 0 1\n', whole).text).toBe(
      'UUID=dddd /a ext4 defaults 0 1\nUUID=dddd /b ext4 defaults 0 1\n/dev/sda1 /c ext4 defaults 0 1\n',
    )
  })

  test('leaves a partition of another disk alone, and says so', () => {
    const { text, left } = fstab('/dev/sdb1 /stick ext4 noauto 0 0\n', fileSystems, 'sda')
    expect(text).toBe('/dev/sdb1 /stick ext4 noauto 0 0\n')
    expect(left).toEqual(['/dev/sdb1'])
    expect(fstab('/dev/sdb1 / ext4 defaults 0 0\n', fileSystems, 'sdb').text).toBe('UUID=aaaa-1 / ext4 defaults 0 0\n')
  })

  test('is the same the second time', () => {
    const once = fstab('/dev/sda7 /data ext4 defaults 0 2\n/dev/sda1 / ext4 defaults 0 1\n').text
    expect(once).toContain('/dev/sda7 /data')
    expect(fstab(once)).toEqual({ text: once, replaced: [], left: ['/dev/sda7'] })
  })

  test('tells what else is to be mounted for the tools, outer file systems first', () => {
    const text =
      '/dev/sda5 /boot/efi vfat defaults 0 0\nLABEL=boot /boot ext4 defaults 0 0\nUUID=aaaa-1 / ext4 defaults 0 0\n/dev/sda1 /../etc ext4 defaults 0 0\n'
    expect(otherMounts(text, fileSystems).map(({ path, fileSystem }) => [path, fileSystem.device])).toEqual([
      ['/boot', '/dev/vda2'],
      ['/boot/efi', '/dev/vda5'],
    ])
  })
})

test('crypttab names the encrypted device in its second column', () => {
  expect(stableTable('# name device key\nswap_crypt /dev/sda5 /dev/urandom swap\nhome UUID=ffff none luks\n', 1, fileSystems).text).toBe(
    '# name device key\nswap_crypt UUID=bbbb-5 /dev/urandom swap\nhome UUID=ffff none luks\n',
  )
})

describe('an interface keeps its name by its MAC', () => {
  const nics = [{ mac: '52:54:00:12:34:56', name: 'ens3' }]
  test('with systemd by a .link file', () => {
    expect(linkFiles(nics)).toEqual([
      {
        path: '/etc/systemd/network/00-portolan-ens3.link',
        content: expect.stringContaining('[Match]\nMACAddress=52:54:00:12:34:56\nType=ether\n\n[Link]\nName=ens3\n'),
      },
    ])
  })
  test('before systemd by a udev rule, unless the guest has one for that MAC', () => {
    expect(udevRules(nics, '')[0]?.content).toContain('ATTR{address}=="52:54:00:12:34:56", ATTR{type}=="1", NAME="ens3"\n')
    expect(udevRules(nics, 'ATTR{address}=="52:54:00:12:34:56", NAME="eth0"\n')).toEqual([])
  })
})

test('mountinfo: a file system mounted twice is one, and blanks come back', () => {
  const text = [
    '22 1 254:1 / / rw,noatime shared:1 - ext4 /dev/vda1 rw',
    '30 22 254:1 /srv /mnt/a\\040b rw shared:1 - ext4 /dev/vda1 rw',
    '31 22 254:2 / /mnt/c\\040d rw shared:1 - ext4 /dev/vda2 ro,errors=continue',
    '32 22 0:5 / /proc rw - proc proc rw',
  ].join('\n')
  expect(parseMountInfo(text)).toEqual([
    { path: '/', fsType: 'ext4', device: '/dev/vda1', readOnly: false, deviceNumber: '254:1' },
    { path: '/mnt/c d', fsType: 'ext4', device: '/dev/vda2', readOnly: true, deviceNumber: '254:2' },
  ])
})
