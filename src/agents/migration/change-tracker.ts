/**
 * Which blocks of a disk are written to, from the kernel's own completions: a tracefs instance of our own, so that nobody else's tracing is touched. Events that
 * were lost are lost for good: `lost` stays true until `restart`, and the caller compares the whole disk.
 */
import * as fs from 'node:fs'
import { readdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { BlockBitmap } from '../../transfer/block-bitmap.ts'
import { blockBytes } from '../../transfer/block-grain.ts'
import { createTraceParser } from './trace-events.ts'

export interface ChangeTracker {
  /** Empties the kernel's buffers into the bitmap. What completed before the call is in it afterwards, unless `lost`. */
  drain(): Promise<void>
  readonly lost: boolean
  /** Blocks found changed so far; one that is written again and again counts once until it is looked at. */
  readonly changedBlocks: number
  /** Forgets that events were lost. Call it before the comparison begins. */
  restart(): Promise<void>
  /** Removes the instance. */
  close(): Promise<void>
}

const defaultBufferKibPerCpu = 2048
const pollMs = 100
const sectorsPerBlock = blockBytes / 512
/** trace_pipe gives at most a page at a time; a disk that writes without pause must not keep us here for ever. */
const maxReadsPerDrain = 20_000

/** `major:minor` as in /sys/block/<name>/dev. Throws Error with the step that failed, after removing what it made. */
export async function createChangeTracker(
  tracefs: string,
  instanceName: string,
  device: { major: number; minor: number },
  changed: BlockBitmap,
  blockCount: number,
  bufferKibPerCpu = defaultBufferKibPerCpu,
): Promise<ChangeTracker> {
  const instance = join(tracefs, 'instances', instanceName)
  const events = join(instance, 'events', 'block', 'block_rq_complete')
  await removeInstance(instance)
  fs.mkdirSync(instance)
  let pipe = -1
  try {
    await writeFile(join(instance, 'buffer_size_kb'), String(bufferKibPerCpu))
    // The kernel's dev_t, of which minor takes the lower 20 bits.
    await writeFile(join(events, 'filter'), `dev == ${device.major * 2 ** 20 + device.minor}`)
    await writeFile(join(events, 'enable'), '1')
    pipe = fs.openSync(join(instance, 'trace_pipe'), fs.constants.O_RDONLY | fs.constants.O_NONBLOCK)
  } catch (error) {
    await removeInstance(instance)
    throw error
  }

  let parser = createTraceParser()
  let overrun = false
  let changedBlocks = 0
  const page = Buffer.alloc(65_536)

  function drainNow(): void {
    for (let reads = 0; reads < maxReadsPerDrain; reads++) {
      const length = readNow(pipe, page)
      if (length === 0) return
      for (const { firstSector, sectorCount } of parser.push(page.toString('latin1', 0, length))) {
        const first = Math.floor(firstSector / sectorsPerBlock)
        const last = Math.ceil((firstSector + sectorCount) / sectorsPerBlock)
        const end = Math.min(blockCount, last)
        // The disk has grown, and the bitmap has not.
        if (last > blockCount) overrun = true
        if (end <= first) continue
        const before = changed.count
        changed.set(first, end - first)
        changedBlocks += changed.count - before
      }
    }
    overrun = true
  }

  async function lostByKernel(): Promise<number> {
    let lost = 0
    for (const cpu of await readdir(join(instance, 'per_cpu'))) {
      const stats = await readFile(join(instance, 'per_cpu', cpu, 'stats'), 'utf8')
      for (const [, count] of stats.matchAll(/^(?:overrun|commit overrun|dropped events): (\d+)$/gm)) lost += Number(count)
    }
    return lost
  }
  let lostBefore = await lostByKernel()
  const timer = setInterval(drainNow, pollMs)
  timer.unref()

  return {
    async drain() {
      drainNow()
      if ((await lostByKernel()) > lostBefore) overrun = true
    },
    get lost() {
      return overrun || parser.lost
    },
    get changedBlocks() {
      return changedBlocks
    },
    async restart() {
      drainNow()
      lostBefore = await lostByKernel()
      parser = createTraceParser()
      overrun = false
    },
    async close() {
      clearInterval(timer)
      fs.closeSync(pipe)
      await removeInstance(instance)
    },
  }
}

/** 0 when there is nothing to read now. */
function readNow(pipe: number, into: Buffer): number {
  try {
    return fs.readSync(pipe, into)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0
    throw error
  }
}

async function removeInstance(instance: string): Promise<void> {
  await rmdir(instance).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
}
