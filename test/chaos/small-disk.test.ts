import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { mountSmallDisk, type SmallDisk } from './small-disk.ts'

test.each([
  ['an empty one', 0],
  ['one with something on it', 100_000],
])('%s is full, and has room again', async (_, bytesBefore) => {
  await withSmallDisk(async (path, disk) => {
    if (bytesBefore > 0) await writeFile(join(path, 'before'), Buffer.alloc(bytesBefore))
    const write = () => writeFile(join(path, 'file'), Buffer.alloc(100_000))
    await disk.fill()
    await expect(write()).rejects.toMatchObject({ code: 'ENOSPC' })
    await disk.free()
    await write()
  })
})

async function withSmallDisk(use: (path: string, disk: SmallDisk) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'portolan-small-disk-'))
  const path = join(directory, 'disk')
  const disk = await mountSmallDisk(path, 1024 ** 2)
  try {
    await use(path, disk)
  } finally {
    await disk.unmount()
    await rm(directory, { recursive: true })
  }
}
