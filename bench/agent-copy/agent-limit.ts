/**
 * Runs in the source guest, with the agent's own Node and the agent's own code: how fast each stage of the copy is when it has the guest for itself.
 *   node agent-limit.mjs /dev/<disk>      prints {"readMibPerSecond", "hashMibPerSecond", "encryptMibPerSecond"}
 */
import { createCipheriv, randomBytes } from 'node:crypto'
import { createAlignedBuffers } from '../../src/transfer/aligned-buffers.ts'
import { blockBytes, maxExtentBlocks } from '../../src/transfer/block-grain.ts'
import { leavesOf } from '../../src/agents/migration/block-digests.ts'
import { openDiskDevice } from '../../src/agents/migration/disk-device.ts'

const extentBytes = maxExtentBlocks * blockBytes
const lanes = 4
const sampleExtents = 48
/** The largest TLS record, which is what a bulk copy fills. */
const recordBytes = 16_384

const device = await openDiskDevice(process.argv[2]!, 'READ')
const buffers = createAlignedBuffers(lanes, extentBytes)
const perExtent = extentBytes / (1 << 20)

async function readAll(extents: number): Promise<number> {
  let next = 0
  const startedAt = performance.now()
  const lane = async () => {
    const buffer = await buffers.acquire()
    while (next < extents) await device.read(buffer, next++ * maxExtentBlocks)
    buffers.release(buffer)
  }
  await Promise.all(Array.from({ length: lanes }, lane))
  return (extents * perExtent * 1000) / (performance.now() - startedAt)
}

function hashAll(data: Buffer): number {
  const startedAt = performance.now()
  for (let extent = 0; extent < sampleExtents; extent += 1) leavesOf(data)
  return (sampleExtents * perExtent * 1000) / (performance.now() - startedAt)
}

function encryptAll(data: Buffer): number {
  const key = randomBytes(32)
  const startedAt = performance.now()
  for (let extent = 0; extent < sampleExtents; extent += 1) {
    for (let at = 0; at < extentBytes; at += recordBytes) {
      const cipher = createCipheriv('chacha20-poly1305', key, randomBytes(12), { authTagLength: 16 })
      cipher.update(data.subarray(at, at + recordBytes))
      cipher.final()
      cipher.getAuthTag()
    }
  }
  return (sampleExtents * perExtent * 1000) / (performance.now() - startedAt)
}

const extents = Number(process.argv[3])
const readMibPerSecond = await readAll(extents)
const sample = await buffers.acquire()
await device.read(sample, maxExtentBlocks * 8)
const figures = { readMibPerSecond, hashMibPerSecond: hashAll(sample), encryptMibPerSecond: encryptAll(sample) }
await device.close()
process.stdout.write(`${JSON.stringify(figures)}\n`)
