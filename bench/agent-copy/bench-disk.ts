/**
 * The disk that the bench copies: an ext4 file system, nearly full, so that no contender gains much by skipping zeros. Two thirds of its content are blocks of
 * the full Debian image (programs, libraries: what compresses as disks do), one third is random (what doesn't compress).
 */
import { randomFillSync } from 'node:crypto'
import { closeSync, mkdirSync, openSync, readSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { artifacts } from '../../setup/artifacts.ts'
import { runCommand } from '../../setup/run-command.ts'
import type { Guest } from './guest.ts'

const blockBytes = 65_536

/** Makes `path`, a raw image of `sizeMib`, and an empty one of the same size at `emptyPath`. */
export async function makeBenchDisks(path: string, emptyPath: string, sizeMib: number, directory: string): Promise<void> {
  const content = join(directory, 'content')
  mkdirSync(content)
  // Room for metadata, and for the canary by which the agent proves its change tracking.
  const blobMib = Math.floor((sizeMib * 15) / 16) - 4
  const blob = openSync(join(content, 'blob'), 'w')
  const image = openSync(artifacts().debianImage, 'r')
  const block = Buffer.alloc(blockBytes)
  const zeros = Buffer.alloc(blockBytes)
  // The image's first 64 MiB hold boot loader and file system metadata more than files.
  let from = 64 << 20
  for (let written = 0; written < blobMib << 20; written += blockBytes) {
    if ((written / blockBytes) % 3 === 2) randomFillSync(block)
    else {
      do {
        if (readSync(image, block, 0, blockBytes, from) < blockBytes)
          throw new Error('The Debian image has too few blocks with data for the bench.')
        from += blockBytes
      } while (block.equals(zeros))
    }
    writeSync(blob, block)
  }
  closeSync(image)
  closeSync(blob)
  writeFileSync(path, '')
  truncateSync(path, sizeMib << 20)
  await runCommand('mke2fs', [
    '-q',
    '-t',
    'ext4',
    '-m',
    '0',
    '-J',
    'size=4',
    '-b',
    '4096',
    '-N',
    '64',
    '-E',
    'lazy_itable_init=0',
    '-d',
    content,
    path,
  ])
  rmSync(content, { recursive: true })
  writeFileSync(emptyPath, '')
  truncateSync(emptyPath, sizeMib << 20)
}

/** Overwrites 1 % of the disk's 64 KiB blocks with random bytes, past the page cache, well behind the file system's metadata. */
export async function changeBlocks(source: Guest, sizeMib: number): Promise<void> {
  const blocks = (sizeMib << 20) / blockBytes
  const from = Math.ceil(blocks / 8)
  const script = `
import mmap, os, random
disk = os.open("/dev/${source.diskDevice}", os.O_WRONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, ${blockBytes})
for block in random.sample(range(${from}, ${blocks - 16}), ${Math.ceil(blocks / 100)}):
    buffer.seek(0)
    buffer.write(os.urandom(${blockBytes}))
    os.pwrite(disk, buffer, block * ${blockBytes})
os.fsync(disk)
`
  await source.put('/dev/shm/change-blocks.py', script)
  await source.run('python3 /dev/shm/change-blocks.py')
}

/** Throws when the two images differ anywhere. */
export function compareImages(one: string, other: string): void {
  const files = [openSync(one, 'r'), openSync(other, 'r')] as const
  const [left, right] = [Buffer.alloc(1 << 20), Buffer.alloc(1 << 20)]
  let differing = 0
  for (let at = 0; readSync(files[0], left, 0, left.length, at) > 0; at += left.length) {
    readSync(files[1], right, 0, right.length, at)
    if (left.equals(right)) continue
    for (let block = 0; block < left.length; block += blockBytes) {
      if (!left.subarray(block, block + blockBytes).equals(right.subarray(block, block + blockBytes))) differing += 1
    }
  }
  for (const file of files) closeSync(file)
  if (differing > 0) throw new Error(`The copy is wrong: ${differing} blocks of the destination's image differ from the source's.`)
}
