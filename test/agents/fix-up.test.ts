import { describe, expect, test } from 'vitest'
import { parseMountInfo } from '../../src/agents/migration/block-devices.ts'
import { stableFstab } from '../../src/agents/migration/fstab.ts'
import { linkFiles } from '../../src/agents/migration/nic-names.ts'

const fileSystems = [
  { device: '/dev/vda1', partition: 1, type: 'ext4', uuid: 'aaaa-1' },
  { device: '/dev/vda5', partition: 5, type: 'swap', uuid: 'bbbb-5' },
]

describe('fstab', () => {
  test('names file systems by UUID where it named them by place, and keeps everything else', () => {
    const { text, replaced } = stableFstab(
      '# /dev/sda1 was here\n/dev/sda1\t/ ext4 defaults 0 1\n/dev/sda5 none swap sw 0 0\nUUID=cccc /x ext4 defaults 0 0\n/dev/mapper/vg-home /home ext4 defaults 0 2\n',
      fileSystems,
    )
    expect(text).toBe(
      '# /dev/sda1 was here\nUUID=aaaa-1\t/ ext4 defaults 0 1\nUUID=bbbb-5 none swap sw 0 0\nUUID=cccc /x ext4 defaults 0 0\n/dev/mapper/vg-home /home ext4 defaults 0 2\n',
    )
    expect(replaced).toEqual(['/dev/sda1 is UUID=aaaa-1', '/dev/sda5 is UUID=bbbb-5'])
  })

  test('of NVMe names, takes the number behind the p', () => {
    expect(stableFstab('/dev/nvme0n1p1 / ext4 defaults 0 1\n', fileSystems).text).toBe('UUID=aaaa-1 / ext4 defaults 0 1\n')
  })

  test('knows a whole disk from its partition', () => {
    const whole = [{ device: '/dev/vdb', partition: null, type: 'ext4', uuid: 'dddd' }]
    expect(
      stableFstab('/dev/nvme0n1 /a ext4 defaults 0 1\n/dev/xvdb /b ext4 defaults 0 1\n/dev/sdb1 /c ext4 defaults 0 1\n', whole).text,
    ).toBe('UUID=dddd /a ext4 defaults 0 1\nUUID=dddd /b ext4 defaults 0 1\n/dev/sdb1 /c ext4 defaults 0 1\n')
  })

  test('leaves what it does not find, and is the same the second time', () => {
    const once = stableFstab('/dev/sdb7 /data ext4 defaults 0 2\n/dev/sda1 / ext4 defaults 0 1\n', fileSystems).text
    expect(once).toContain('/dev/sdb7 /data')
    expect(stableFstab(once, fileSystems)).toEqual({ text: once, replaced: [] })
  })
})

test('an interface keeps its name by its MAC', () => {
  expect(linkFiles([{ mac: '52:54:00:12:34:56', name: 'ens3' }])).toEqual([
    {
      name: '00-portolan-ens3.link',
      content: expect.stringContaining('[Match]\nMACAddress=52:54:00:12:34:56\nType=ether\n\n[Link]\nName=ens3\n'),
    },
  ])
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
