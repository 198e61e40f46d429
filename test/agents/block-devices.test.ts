import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { findDisk } from '../../src/agents/migration/block-devices.ts'
import { attachLoop, detachLoop, type LoopDisk } from './agent-pair.ts'

let directory: string
let mountPoint: string
let loop: LoopDisk

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'portolan-block-devices-'))
  mountPoint = join(directory, 'mnt')
  mkdirSync(mountPoint)
  const image = join(directory, 'disk.img')
  closeSync(openSync(image, 'w'))
  truncateSync(image, 8 * 1024 * 1024)
  loop = attachLoop(image)
})
afterEach(() => {
  execFileSync('sh', ['-c', 'umount "$1"', 'sh', mountPoint])
  detachLoop(loop)
  rmSync(directory, { recursive: true, force: true })
})

test('a file system with a number of its own, as btrfs has, is on the disk of the device that it names', async () => {
  // A tmpfs may name what it likes, and its line in mountinfo is like that of a btrfs.
  execFileSync('mount', ['-t', 'tmpfs', loop.path, mountPoint])
  expect((await findDisk(loop.name))?.mounts).toEqual([{ path: mountPoint, fsType: 'tmpfs', device: loop.path, readOnly: false }])
})
