/** Change tracking for real: an ext4 on a loop device, this kernel's tracefs. What tracking says is compared with what the image shows. */
import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { deviceNumberOf } from '../../src/agents/migration/block-devices.ts'
import { createChangeTracker, type ChangeTracker } from '../../src/agents/migration/change-tracker.ts'
import { findTracefs, type TracefsMount } from '../../src/agents/migration/tracefs-mount.ts'
import { proveTracking } from '../../src/agents/migration/tracking-proof.ts'
import { createBlockBitmap, type BlockBitmap } from '../../src/transfer/block-bitmap.ts'
import { attachLoop, detachLoop, type LoopDisk } from './agent-pair.ts'

const blockBytes = 65_536
const diskBytes = 64 * 1024 * 1024
const blockCount = diskBytes / blockBytes

let directory: string
let mountPoint: string
let loop: LoopDisk
let tracefs: TracefsMount
let tracker: ChangeTracker
let changed: BlockBitmap

const shell = (script: string) => execFileSync('sh', ['-ec', script, 'sh', mountPoint], { encoding: 'utf8' })
function snapshot(): Buffer {
  execFileSync('sync', [loop.imagePath])
  return readFileSync(loop.imagePath)
}
function blocksThatDiffer(before: Buffer, after: Buffer): number[] {
  const differing: number[] = []
  for (let block = 0; block < blockCount; block++) {
    const at = block * blockBytes
    if (before.compare(after, at, at + blockBytes, at, at + blockBytes) !== 0) differing.push(block)
  }
  return differing
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'portolan-tracking-'))
  mountPoint = join(directory, 'mnt')
  mkdirSync(mountPoint)
  const image = join(directory, 'disk.img')
  closeSync(openSync(image, 'w'))
  truncateSync(image, diskBytes)
  loop = attachLoop(image)
  execFileSync('mkfs.ext4', ['-q', '-E', 'lazy_itable_init=0', loop.path])
  execFileSync('mount', ['-o', 'discard', loop.path, mountPoint])
  tracefs = (await findTracefs(directory))!
  changed = createBlockBitmap(blockCount)
  tracker = await createChangeTracker(tracefs.path, `portolan-test-${process.pid}`, await deviceNumberOf(loop.name), changed, blockCount)
})
afterEach(async () => {
  await tracker?.close()
  await tracefs?.release()
  execFileSync('umount', [mountPoint])
  detachLoop(loop)
  rmSync(directory, { recursive: true, force: true })
})

describe('change tracking', { timeout: 30_000 }, () => {
  test('sees every block that writes, rewrites, holes, discards and truncation change', async () => {
    shell('head -c 20M /dev/urandom >$1/a; head -c 5M /dev/urandom >$1/b; sync')
    await tracker.drain()
    changed.clearAll()
    const before = snapshot()
    shell(
      'dd if=/dev/urandom of=$1/a bs=4k count=300 seek=100 conv=notrunc status=none; fallocate -p -o 8M -l 3M $1/a; fallocate -z -o 0 -l 256K $1/a',
    )
    shell(
      'rm $1/b; fallocate -l 4M $1/c; head -c 1M /dev/urandom | dd of=$1/c bs=4k seek=50 conv=notrunc status=none; truncate -s 5M $1/a; sync; fstrim $1',
    )
    await tracker.drain()
    const differing = blocksThatDiffer(before, snapshot())
    expect(differing.length).toBeGreaterThan(30)
    expect(differing.filter((block) => !changed.has(block))).toEqual([])
    expect(tracker.lost).toBe(false)
  })

  test('is proven by a canary, which leaves nothing behind', async () => {
    expect(await proveTracking(tracker, changed, mountPoint)).toBeNull()
    expect(readdirSync(mountPoint)).toEqual(['lost+found'])
  })

  test('has a canary without a name, which a killed agent can not leave behind', async () => {
    const names: string[][] = []
    const drain = tracker.drain
    tracker.drain = () => {
      names.push(readdirSync(mountPoint))
      return drain()
    }
    expect(await proveTracking(tracker, changed, mountPoint)).toBeNull()
    expect(names.flat().filter((name) => name !== 'lost+found')).toEqual([])
  })

  test('is not proven on a file system of another disk', async () => {
    expect(await proveTracking(tracker, changed, directory)).toMatch(/did not show/)
  })

  test('knows that it lost events when the kernel overran its buffer, until it is told to begin anew', async () => {
    await tracker.close()
    tracker = await createChangeTracker(
      tracefs.path,
      `portolan-test-${process.pid}`,
      await deviceNumberOf(loop.name),
      changed,
      blockCount,
      4,
    )
    // Nothing is drained meanwhile: this process waits. Each write is an event of its own.
    shell('dd if=/dev/urandom of=$1/many bs=4k count=3000 oflag=direct status=none')
    await tracker.drain()
    expect(tracker.lost).toBe(true)
    await tracker.restart()
    await tracker.drain()
    expect(tracker.lost).toBe(false)
  })

  test('knows that it lost a write past the end of the disk as it was', async () => {
    await tracker.close()
    const instance = `portolan-test-${process.pid}`
    tracker = await createChangeTracker(tracefs.path, instance, await deviceNumberOf(loop.name), createBlockBitmap(16), 16)
    const write = (block: number) =>
      execFileSync('dd', ['if=/dev/urandom', `of=${loop.path}`, 'bs=64k', 'count=1', `seek=${block}`, 'oflag=direct', 'status=none'])
    write(15)
    await tracker.drain()
    expect(tracker.lost).toBe(false)
    write(16)
    await tracker.drain()
    expect(tracker.lost).toBe(true)
  })
})
