/** A tree as Red Hat's family lays it out, on a real XFS: GRUB 2 with BLS entries, ifcfg files, SELinux. */
import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixUpDisk } from '../../src/agents/migration/fix-up/fix-up-disk.ts'
import { attachLoop, detachLoop, type LoopDisk } from './agent-pair.ts'

const root = '6f1d4c1e-3b0a-4b6e-9a55-0d7d6c0e9b11'
const mac = '52:54:00:12:34:56'
const fixed = { mode: 'STATIC', address: '192.0.2.7/24', gateway: '192.0.2.1', dnsServers: [] as string[] } as const
const request = { nics: [{ mac, name: 'ens192', addressing: { ...fixed, dnsServers: [] } }], sourceDisk: 'sda' }

const files: Record<string, string> = {
  'etc/fstab': '/dev/sda / xfs defaults 0 0\n/dev/mapper/rhel-home /home xfs defaults 0 0\n',
  'etc/selinux/config': 'SELINUX=enforcing\nSELINUXTYPE=targeted\n',
  'etc/default/grub': 'GRUB_CMDLINE_LINUX="crashkernel=auto rhgb quiet"\nGRUB_ENABLE_BLSCFG=true\n',
  'etc/sysconfig/network-scripts/ifcfg-ens192':
    'TYPE=Ethernet\nBOOTPROTO=none\nNAME=ens192\nDEVICE=ens192\nONBOOT=yes\nIPADDR=10.1.1.5\nPREFIX=24\n',
  'usr/lib/systemd/systemd': '',
  'boot/loader/entries/f00-4.18.0.conf':
    'title Linux\nversion 4.18.0\nlinux /vmlinuz-4.18.0\ninitrd /initramfs-4.18.0.img\noptions $kernelopts\n',
  'boot/grub2/grubenv': '# GRUB Environment Block\nkernelopts=root=/dev/sda ro crashkernel=auto\n'.padEnd(1_024, '#'),
  'boot/initramfs-4.18.0.img': '',
}

describe("a guest of Red Hat's family on XFS", { timeout: 60_000 }, () => {
  let directory: string
  let loop: LoopDisk
  const inside = (script: string) => {
    execFileSync('mount', ['-t', 'xfs', loop.path, join(directory, 'mnt')])
    try {
      return execFileSync('sh', ['-ec', script], { cwd: join(directory, 'mnt'), encoding: 'utf8' })
    } finally {
      execFileSync('umount', [join(directory, 'mnt')])
    }
  }
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'portolan-red-hat-'))
    mkdirSync(join(directory, 'mnt'))
    const image = join(directory, 'disk.img')
    closeSync(openSync(image, 'w'))
    truncateSync(image, 320 * 1024 * 1024)
    loop = attachLoop(image)
    execFileSync('mkfs.xfs', ['-q', '-f', '-m', `uuid=${root}`, loop.path])
    for (const [path, content] of Object.entries(files)) {
      writeFileSync(join(directory, 'file'), content)
      inside(`mkdir -p "$(dirname ${path})"; cp ${join(directory, 'file')} ${path}`)
    }
  })
  afterAll(() => {
    if (loop) detachLoop(loop)
    rmSync(directory, { recursive: true, force: true })
  })

  test('gets UUIDs, its address in the ifcfg file that it has, its interface name, and labels; once', async () => {
    const steps = await fixUpDisk(loop.name, request)
    expect(steps.filter(({ changed }) => changed).map(({ step }) => step)).toEqual([
      'fstab-by-uuid',
      'nic-names',
      'addresses',
      'boot-loader',
      'selinux-labels',
    ])
    expect(inside('cat etc/fstab')).toBe(`UUID=${root} / xfs defaults 0 0\n/dev/mapper/rhel-home /home xfs defaults 0 0\n`)
    expect(inside('cat etc/sysconfig/network-scripts/ifcfg-ens192')).toContain('IPADDR=192.0.2.7\nPREFIX=24\nGATEWAY=192.0.2.1\n')
    expect(inside('cat boot/grub2/grubenv')).toMatch(new RegExp(`kernelopts=root=UUID=${root} ro crashkernel=auto\n#+$`))
    expect(inside('stat -c %s boot/grub2/grubenv; ls -A .autorelabel etc/systemd/network')).toContain('1024\n')
    // There is no setfiles in this tree, so the policy's own way is left.
    expect(steps.find(({ step }) => step === 'selinux-labels')?.couldNot).toContain('could not be labelled')
    // What it can't do is said: the initramfs here is empty, and the disk has no boot code.
    expect(steps.flatMap(({ couldNot }) => (couldNot === undefined ? [] : [couldNot])).join(' ')).toContain('no boot signature')
    expect((await fixUpDisk(loop.name, request)).filter(({ changed }) => changed)).toEqual([])
  })
})
