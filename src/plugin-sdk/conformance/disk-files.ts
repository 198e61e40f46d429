/** A destination's disk as a file, seen and filled from outside. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'

const chunkBytes = 1024 * 1024

/** Copies what is not zero, into the same file: the running landing image holds it open. */
export async function writeImage(imagePath: string, diskPath: string): Promise<void> {
  const disk = await open(diskPath, 'r+')
  try {
    let offset = 0
    for await (const chunk of createReadStream(imagePath, { highWaterMark: chunkBytes }) as AsyncIterable<Buffer>) {
      if (chunk.some((byte) => byte !== 0)) await disk.write(chunk, 0, chunk.length, offset)
      offset += chunk.length
    }
    await disk.sync()
  } finally {
    await disk.close()
  }
}

export async function isAllZero(path: string): Promise<boolean> {
  const zeros = Buffer.alloc(chunkBytes)
  for await (const chunk of createReadStream(path, { highWaterMark: chunkBytes }) as AsyncIterable<Buffer>)
    if (!chunk.equals(zeros.subarray(0, chunk.length))) return false
  return true
}

export async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: chunkBytes }) as AsyncIterable<Buffer>) hash.update(chunk)
  return hash.digest('hex')
}
