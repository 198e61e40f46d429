/**
 * The names of the files in an initramfs: cpio archives ("newc") one after the other, the first ones plain (microcode), the last one most often compressed. Read as a
 * stream, in bounded memory. Nothing is unpacked.
 */
import { spawn } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import { createGunzip, createZstdDecompress } from 'node:zlib'

const headerBytes = 110
const longestName = 4_096

/** By the first bytes. The landing image has the programs. */
const compressions: { magic: string; open(input: Readable): Readable }[] = [
  { magic: '1f8b', open: (input) => input.pipe(createGunzip()) },
  { magic: '28b52ffd', open: (input) => input.pipe(createZstdDecompress()) },
  { magic: 'fd377a585a00', open: (input) => through('xzcat', input) },
  { magic: '425a68', open: (input) => through('bzcat', input) },
  { magic: '5d0000', open: (input) => through('lzcat', input) },
]

/** Ends early when its reader does. Throws Error with one sentence for what it can't read. */
export async function* initramfsNames(path: string): AsyncGenerator<string> {
  const file = createReadStream(path)
  try {
    yield* names(createByteReader(file))
  } finally {
    file.destroy()
  }
}

async function* names(reader: ByteReader): AsyncGenerator<string> {
  for (;;) {
    const start = await reader.peek(6)
    if (start.length === 0) return
    if (start[0] === 0) {
      // Archives are padded with zeros, by any number of them.
      await reader.skip(1)
      continue
    }
    if (/^07070[12]$/.test(start.toString('latin1'))) {
      yield* archiveNames(reader)
      continue
    }
    const compression = compressions.find(({ magic }) => start.toString('hex').startsWith(magic))
    if (!compression) throw new Error(`it holds a part that begins with ${start.toString('hex')}, a compression that is not known here`)
    const opened = compression.open(Readable.from(reader.rest()))
    try {
      yield* names(createByteReader(opened))
    } finally {
      opened.destroy()
    }
    return
  }
}

async function* archiveNames(reader: ByteReader): AsyncGenerator<string> {
  for (;;) {
    const header = (await reader.take(headerBytes)).toString('latin1')
    if (header.length < headerBytes || !/^07070[12][0-9a-fA-F]{104}$/.test(header)) throw new Error('its archive is damaged or cut short')
    const field = (index: number) => Number.parseInt(header.slice(6 + index * 8, 14 + index * 8), 16)
    const [fileBytes, nameBytes] = [field(6), field(11)]
    if (nameBytes < 1 || nameBytes > longestName) throw new Error('its archive is damaged')
    const name = (await reader.take(nameBytes)).subarray(0, -1).toString('latin1')
    await reader.skip(padding(headerBytes + nameBytes) + fileBytes + padding(fileBytes))
    if (name === 'TRAILER!!!') return
    yield name
  }
}

function padding(bytes: number): number {
  return -bytes & 3
}

function through(program: string, input: Readable): Readable {
  const child = spawn(program, [], { stdio: ['pipe', 'pipe', 'ignore'] })
  // Either end may go first: what is missing then is seen as an archive that is cut short.
  child.on('error', (error) => child.stdout.destroy(error))
  child.stdin.on('error', () => input.destroy())
  input.pipe(child.stdin)
  child.stdout.once('close', () => child.kill())
  return child.stdout
}

interface ByteReader {
  /** Fewer at the end. */
  peek(bytes: number): Promise<Buffer>
  take(bytes: number): Promise<Buffer>
  skip(bytes: number): Promise<void>
  rest(): AsyncGenerator<Buffer>
}

function createByteReader(source: Readable): ByteReader {
  const chunks = source[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  let held: Buffer = Buffer.alloc(0)

  async function hold(bytes: number): Promise<void> {
    while (held.length < bytes) {
      const { value, done } = await chunks.next()
      if (done) return
      held = held.length === 0 ? value : Buffer.concat([held, value])
    }
  }

  return {
    async peek(bytes) {
      await hold(bytes)
      return held.subarray(0, bytes)
    },
    async take(bytes) {
      await hold(bytes)
      const taken = held.subarray(0, bytes)
      held = held.subarray(taken.length)
      return taken
    },
    async skip(bytes) {
      for (let left = bytes; left > 0;) {
        await hold(1)
        if (held.length === 0) return
        const step = Math.min(left, held.length)
        held = held.subarray(step)
        left -= step
      }
    },
    async *rest() {
      if (held.length > 0) yield held
      for (let next = await chunks.next(); !next.done; next = await chunks.next()) yield next.value
    },
  }
}
