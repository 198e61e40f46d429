/** Fix-up of a real file system on a loop device, as the landing agent does it on the overlay. */
import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { fixUpDisk } from '../../src/agents/migration/fix-up/fix-up-disk.ts'
import { attachLoop, detachLoop, type LoopDisk } from './agent-pair.ts'

const uuid = '6f1d4c1e-3b0a-4b6e-9a55-0d7d6c0e9b11'
const nics = [{ mac: '52:54:00:12:34:56', name: 'ens3' }]
let directory: string
let loop: LoopDisk

/** What a shell sees in the file system, which is mounted for it alone. */
function inside(script: string): string {
  const mountPoint = join(directory, 'mnt')
  mkdirSync(mountPoint, { recursive: true })
  execFileSync('mount', [loop.path, mountPoint])
  try {
    return execFileSync('sh', ['-ec', script], { cwd: mountPoint, encoding: 'utf8' })
  } finally {
    execFileSync('umount', [mountPoint])
  }
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'portolan-fix-up-'))
  const image = join(directory, 'disk.img')
  closeSync(openSync(image, 'w'))
  truncateSync(image, 32 * 1024 * 1024)
  loop = attachLoop(image)
  execFileSync('mkfs.ext4', ['-q', '-U', uuid, loop.path])
})
afterEach(() => {
  detachLoop(loop)
  rmSync(directory, { recursive: true, force: true })
})

describe('fix-up', { timeout: 20_000 }, () => {
  test('names the root by UUID and keeps the names of interfaces, once', async () => {
    inside("mkdir -p etc usr/lib/systemd; printf '/dev/sda / ext4 defaults 0 1\\n' >etc/fstab; chmod 640 etc/fstab")
    const first = await fixUpDisk(loop.name, { nics, sourceDisk: 'sda' })
    expect(first.filter(({ changed }) => changed).map(({ step }) => step)).toEqual(['fstab-by-uuid', 'nic-names'])
    expect(inside('cat etc/fstab; stat -c %a etc/fstab; ls -A etc etc/systemd/network')).toBe(
      `UUID=${uuid} / ext4 defaults 0 1\n640\netc:\nfstab\nsystemd\n\netc/systemd/network:\n00-portolan-ens3.link\n`,
    )
    expect((await fixUpDisk(loop.name, { nics, sourceDisk: 'sda' })).some(({ changed }) => changed)).toBe(false)
  })

  test('leaves a disk without a root as it is, and says so', async () => {
    const steps = await fixUpDisk(loop.name, { nics, sourceDisk: 'sda' })
    expect(steps).toEqual([
      { step: 'find-root', changed: false, detail: 'nothing was changed', couldNot: expect.stringContaining('No root was found') },
    ])
    const addressed = { nics: [{ ...nics[0]!, addressing: { mode: 'DHCP' } as const }] }
    await expect(fixUpDisk(loop.name, addressed)).rejects.toMatchObject({ code: 'FIX_UP_FAILED', retryable: false })
    expect(inside('ls -A')).toBe('lost+found\n')
  })
})
