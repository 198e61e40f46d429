/** What an agent reads before it knows who speaks in what frames: lines of the control plane, the relay's answer. */
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { readJsonLines } from '../../src/agents/migration/json-lines.ts'
import { dialThroughRelay } from '../../src/transfer/dial.ts'
import { relayLineBytes } from '../../src/transfer/relay-protocol.ts'
import { TransferError } from '../../src/transfer/transfer-error.ts'
import { bytesLike, fuzz, jsonLike, noise } from './support/fuzz.ts'

const cut = (stream: Buffer, length: number) =>
  Array.from({ length: Math.ceil(stream.length / length) }, (_, index) => stream.subarray(index * length, (index + 1) * length))

/** What a reader of lines says of a stream that comes in these pieces. */
async function heard(pieces: readonly Buffer[]): Promise<{ values: unknown[]; broken: string[] }> {
  const stream = new PassThrough()
  const values: unknown[] = []
  const broken: string[] = []
  readJsonLines(
    stream as unknown as Socket,
    (value) => {
      expect(broken).toEqual([])
      values.push(value)
    },
    (reason) => broken.push(reason),
  )
  for (const piece of pieces) stream.write(piece)
  stream.end()
  stream.resume()
  await once(stream, 'close')
  return { values, broken }
}

describe('lines of the control plane', () => {
  const request = { request: { id: '1', method: 'hook.run', params: { command: ['écho', '\u2028'], timeoutMs: 1 } } }
  const valid = fc.array(fc.oneof(jsonLike(request), fc.jsonValue()), { maxLength: 5 })
  const written = (values: readonly unknown[]) => Buffer.from(values.map((value) => `${JSON.stringify(value) ?? 'null'}\n`).join(''))
  const pieceBytes = fc.integer({ min: 1, max: 60 })

  fuzz('come out as they went in, in whatever pieces', fc.tuple(valid, pieceBytes), async ([values, length]) => {
    const { values: found, broken } = await heard(cut(written(values), length))
    expect(broken).toEqual([])
    expect(found).toEqual(JSON.parse(JSON.stringify(values)))
  })

  fuzz(
    'up to the first that is none, which is told once',
    fc.tuple(bytesLike(valid.map(written)), pieceBytes),
    async ([stream, length]) => {
      const lines = stream.toString('utf8').split('\n').slice(0, -1)
      const expected: unknown[] = []
      let broken: string[] = []
      for (const line of lines) {
        try {
          expected.push(JSON.parse(line))
        } catch {
          broken = ['a line is not JSON']
          break
        }
      }
      expect(await heard(cut(stream, length))).toEqual({ values: expected, broken })
    },
  )

  const maxLineBytes = 1024 * 1024
  fuzz(
    'up to the first that is too long, wherever its end lies',
    fc.tuple(fc.integer({ min: -3, max: 3 }), fc.constantFrom(65_536, 65_537, 3_000_000), fc.boolean()),
    async ([more, length, ends]) => {
      const long = Buffer.from(`"${'x'.repeat(maxLineBytes + more - 2)}"${ends ? '\n"after"\n' : ''}`)
      const { values, broken } = await heard(cut(Buffer.concat([Buffer.from('1\n'), long]), length))
      expect(broken).toEqual(more > 0 ? ['a line is too long'] : [])
      expect(values).toHaveLength(more > 0 || !ends ? 1 : 3)
    },
    30,
  )
})

describe("the relay's answer", () => {
  let server: Server
  /** What the relay says, piece by piece, and whether it hangs up then. */
  let says: { pieces: Buffer[]; hangsUp: boolean }
  const open = new Set<Socket>()
  beforeAll(async () => {
    server = createServer({ noDelay: true }, (socket) => {
      open.add(socket.on('error', () => {}).on('close', () => open.delete(socket)))
      socket.once('data', () => {
        for (const piece of says.pieces) socket.write(piece)
        if (says.hangsUp) socket.end()
      })
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
  })
  afterAll(async () => {
    for (const socket of open) socket.destroy()
    await new Promise((closed) => server.close(closed))
  })

  const paired = Buffer.from('{"paired":{}}\n')
  const answer = fc.tuple(fc.constantFrom(paired, Buffer.from('{"paired":{}}'), Buffer.from('{"paired": {}}\n')), noise)
  fuzz(
    'a connection that loses no byte of the peer, or LINK_LOST',
    fc.tuple(
      fc.oneof(
        answer.map(([line, rest]) => Buffer.concat([line, rest])),
        bytesLike(fc.constant(paired)),
        noise,
        fc.integer({ min: relayLineBytes - 3, max: relayLineBytes + 3 }).map((length) => Buffer.alloc(length, 'x')),
      ),
      fc.constantFrom(1, 7, 500, 5_000),
      fc.boolean(),
    ),
    async ([stream, length, hangsUp]) => {
      const isPaired = stream.subarray(0, paired.length).equals(paired)
      // A relay that says nothing more and stays would be waited for until the time is up.
      const ends = hangsUp || (!isPaired && !stream.includes(10) && stream.length <= relayLineBytes)
      says = { pieces: cut(stream, length), hangsUp: ends }
      const relay = { host: '127.0.0.1', port: (server.address() as AddressInfo).port, token: 't' }
      const socket = await dialThroughRelay(relay, 'SOURCE', 600_000).catch((error: unknown) => {
        expect(error).toMatchObject({ name: 'TransferError', code: 'LINK_LOST', retryable: true })
        expect(error).toBeInstanceOf(TransferError)
      })
      expect(socket !== undefined).toBe(isPaired)
      if (!socket) return
      const rest: Buffer[] = []
      const wanted = stream.length - paired.length
      for (let bytes = 0; bytes < wanted; bytes += rest.at(-1)!.length) {
        const [chunk] = (await once(socket, 'readable').then(() => [socket.read()])) as [Buffer | null]
        rest.push(chunk ?? Buffer.alloc(0))
      }
      expect(Buffer.concat(rest).equals(stream.subarray(paired.length))).toBe(true)
      socket.destroy()
    },
    100,
  )
})
