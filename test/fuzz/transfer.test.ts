/** What agents and control plane parse of each other: frames, their payloads, the greeting, requests. */
import * as fc from 'fast-check'
import { describe, expect } from 'vitest'
import { digestBytes } from '../../src/transfer/block-digest.ts'
import { isControlMethod, parseBootstrap, parseEnrolmentAnswer, parseParams, parseRequest } from '../../src/transfer/control-messages.ts'
import {
  decodeDigests,
  decodeExtent,
  decodeJson,
  decodeLeaves,
  decodePeerWait,
  decodeRoot,
  decodeSubtree,
  decodeSubtreeRange,
  decodeZeros,
  encodeExtentHead,
  encodeJson,
  encodeSubtree,
  encodeSubtreeRange,
  encodeZeros,
} from '../../src/transfer/data-messages.ts'
import { decodeExclusion } from '../../src/transfer/exclusion-messages.ts'
import { createFrameDecoder, encodeFrameHeader, frameHeaderBytes, maxPayloadBytes, type Frame } from '../../src/transfer/frame.ts'
import { negotiate, transferHello } from '../../src/transfer/negotiate.ts'
import { TransferError } from '../../src/transfer/transfer-error.ts'
import { bytesLike, fuzz, jsonLike, jsonTextLike, noise, parsed } from './support/fuzz.ts'

const isTyped = (error: unknown) => error instanceof TransferError

const encoded = ({ type, sequence, payload }: { type: number; sequence: number; payload: Buffer }) =>
  Buffer.concat([encodeFrameHeader(type, sequence, payload.length), payload])
const frames = fc.array(
  fc.record({
    type: fc.nat(255),
    sequence: fc.nat(0xffffffff),
    payload: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  }),
  { maxLength: 6 },
)
/** The stream cut into pieces of this length. */
const pieces = (stream: Buffer, length: number) =>
  Array.from({ length: Math.ceil(stream.length / length) }, (_, index) => stream.subarray(index * length, (index + 1) * length))

describe('frames', () => {
  fuzz('valid frames come out as they went in, in whatever pieces', fc.tuple(frames, fc.integer({ min: 1, max: 50 })), ([sent, length]) => {
    const decoder = createFrameDecoder()
    const received = pieces(Buffer.concat(sent.map(encoded)), length).flatMap((piece) => decoder.push(piece))
    decoder.end()
    expect(received.map(({ type, sequence, payload }) => ({ type, sequence, payload: Buffer.concat(payload) }))).toEqual(sent)
  })
  fuzz(
    'a broken stream ends in an error, and holds no more than it brought',
    fc.tuple(bytesLike(frames.map((sent) => Buffer.concat(sent.map(encoded)))), fc.integer({ min: 1, max: 50 })),
    ([stream, length]) => {
      const decoder = createFrameDecoder()
      const received = parsed(() => pieces(stream, length).flatMap((piece) => decoder.push(piece)), isTyped) ?? []
      parsed(() => decoder.end(), isTyped)
      const bytes = received.reduce((sum, { payload }) => sum + frameHeaderBytes + Buffer.concat(payload).length, 0)
      expect(bytes).toBeLessThanOrEqual(stream.length)
      for (const { payloadBytes } of received) expect(payloadBytes).toBeLessThanOrEqual(maxPayloadBytes)
    },
  )
})

const frame = (payload: Buffer): Frame => ({ type: 1, sequence: 1, payload: pieces(payload, 13), payloadBytes: payload.length })
const block = fc.nat(2 ** 40)
const digests = (count: number) => Buffer.alloc(count * digestBytes, 7)

/** By message: a valid payload, and what decodes it and encodes the outcome again. */
const messages: Record<string, { valid: fc.Arbitrary<Buffer>; again: (frame: Frame) => Buffer }> = {
  extent: {
    valid: fc
      .tuple(block, fc.integer({ min: 1, max: 16 }), fc.boolean(), noise)
      .map(([first, count, zstd, data]) =>
        Buffer.concat([encodeExtentHead({ first, count, codec: zstd ? 'ZSTD' : 'RAW', digests: digests(count) }), data]),
      ),
    again: (received) => {
      const { extent, data, dataBytes } = decodeExtent(received)
      expect(Buffer.concat(data).length).toBe(dataBytes)
      return Buffer.concat([encodeExtentHead(extent), ...data])
    },
  },
  zeros: {
    valid: fc.tuple(block, fc.integer({ min: 1, max: 2 ** 32 - 1 })).map(([first, count]) => encodeZeros(first, count)),
    again: (received) => {
      const { first, count } = decodeZeros(received)
      return encodeZeros(first, count)
    },
  },
  'range of subtrees': {
    valid: fc.tuple(fc.nat(2 ** 31), fc.integer({ min: 1, max: 40_000 })).map(([first, count]) => encodeSubtreeRange(first, count)),
    again: (received) => {
      const { first, count } = decodeSubtreeRange(received)
      return encodeSubtreeRange(first, count)
    },
  },
  subtree: { valid: fc.nat(2 ** 31).map((subtree) => encodeSubtree(subtree)), again: (received) => encodeSubtree(decodeSubtree(received)) },
  digests: {
    valid: fc.integer({ min: 1, max: 9 }).map((count) => encodeSubtree(3, digests(count))),
    again: (received) => {
      const { first, digests: found } = decodeDigests(received)
      return encodeSubtree(first, found)
    },
  },
  leaves: {
    valid: fc.constant(encodeSubtree(3, digests(256))),
    again: (received) => {
      const { subtree, leaves } = decodeLeaves(received)
      return encodeSubtree(subtree, leaves)
    },
  },
  root: { valid: fc.constant(digests(1)), again: decodeRoot },
}
describe('payloads of frames', () => {
  for (const [name, { valid, again }] of Object.entries(messages))
    fuzz(`${name}: refused, or the same again`, bytesLike(valid), (payload) => {
      const round = parsed(() => again(frame(payload)), isTyped)
      if (round) expect(round.equals(payload)).toBe(true)
    })
  fuzz('a verification', bytesLike(fc.constant(Buffer.from([1]))), (payload) => {
    const wait = parsed(() => decodePeerWait(frame(payload)), isTyped)
    expect([undefined, 'LINK', 'DESTINATION_DISK', 'DESTINATION_CPU']).toContain(wait)
  })
  fuzz('JSON: refused, or the same again', jsonTextLike({ diskBytes: 4096, allZero: true, receiverId: 'r' }), (payload) => {
    const value = parsed(() => decodeJson(frame(payload)), isTyped)
    if (value) expect(JSON.parse(encodeJson(value).toString())).toEqual(JSON.parse(payload.toString('utf8')))
  })
  const runs = fc.array(fc.tuple(fc.nat(1000), fc.integer({ min: 1, max: 1000 })), { maxLength: 20 }).map((gaps) => {
    let at = 0
    const parts = gaps.map(([gap, count]) => {
      const part = encodeZeros(at + gap + 1, count)
      at += gap + 1 + count
      return part
    })
    return Buffer.concat([Buffer.from([1]), ...parts])
  })
  fuzz('excluded runs: refused, or ascending and apart', fc.tuple(bytesLike(runs), fc.nat(100)), ([payload, after]) => {
    const found = parsed(() => decodeExclusion(frame(payload), after), isTyped)
    let from = after
    for (const { first, count } of found?.runs ?? []) {
      expect(first).toBeGreaterThanOrEqual(from)
      expect(count).toBeGreaterThan(0)
      from = first + count
    }
  })
})

describe('greeting', () => {
  const own = transferHello('m', 'SOURCE')
  fuzz('an odd greeting is refused, or agreed on within what both can', jsonLike(transferHello('m', 'DESTINATION')), (received) => {
    if (typeof received !== 'object' || received === null || Array.isArray(received)) return
    const agreed = parsed(() => negotiate(own, { ...received }), isTyped)
    if (!agreed) return
    expect(agreed.minor).toBeLessThanOrEqual(own.protocol.minor)
    expect(Number.isInteger(agreed.minor) && agreed.minor >= 0).toBe(true)
    expect([null, 'zstd']).toContain(agreed.compression)
  })
})

const endpoint = { host: '10.0.0.1', port: 4000 }
const params = {
  'transfer.connect': { listenPort: 1, endpoints: [endpoint], relay: { ...endpoint, token: 't' }, timeoutMs: 1000 },
  'tracking.start': { disk: 'vda', excludedDirectories: ['/tmp'] },
  'receive.start': { disk: 'vda', empty: true },
  'round.run': { round: 1, mode: 'FULL' },
  'bandwidth.set': { limitBytesPerSecond: 1000 },
  'round.stop': {},
  freeze: { freezeId: 'f', leaseMs: 1000 },
  'freeze.renew': { freezeId: 'f', leaseMs: 1000 },
  thaw: { freezeId: 'f' },
  root: {},
  fixUp: { nics: [{ mac: '52:54:00:00:00:01', name: 'eth0', addressing: { dhcp: true } }], sourceDisk: 'vda', empty: ['/tmp'] },
  interfaces: {},
  'hook.run': { hookId: 'h', command: ['/bin/true'], timeoutMs: 1000, environment: { A: 'b' } },
  exit: {},
} as const
describe('requests to an agent', () => {
  for (const [method, valid] of Object.entries(params))
    fuzz(
      `${method}: refused, or the same when parsed again`,
      jsonLike(valid),
      (given) => {
        expect(isControlMethod(method)).toBe(true)
        if (!isControlMethod(method)) return
        const first = parsed(() => parseParams(method, given), isTyped)
        if (first) expect(parseParams(method, first)).toEqual(first)
      },
      200,
    )
  fuzz('a request', jsonLike({ request: { id: '1', method: 'root', params: {} } }), (given) => {
    const request = parsed(() => parseRequest(given), isTyped)
    if (request) expect([typeof request.id, typeof request.method]).toEqual(['string', 'string'])
  })
  fuzz(
    'only the methods that there are',
    fc.oneof(fc.string(), fc.constantFrom('__proto__', 'constructor', 'toString', 'hasOwnProperty')),
    (method) => {
      expect(isControlMethod(method)).toBe(Object.hasOwn(params, method))
    },
  )
  const bootstrap = {
    migrationId: 'm',
    role: 'SOURCE',
    controlPlane: [endpoint],
    serverName: 's',
    caCertificatePem: 'pem',
    enrolmentToken: 't',
  }
  fuzz('a bootstrap file: refused, or the same when parsed again', jsonTextLike(bootstrap), (given) => {
    const first = parsed(() => parseBootstrap(given.toString('utf8')), isTyped)
    if (first) expect(parseBootstrap(JSON.stringify(first))).toEqual(first)
  })
  fuzz('an answer to enrolment', jsonLike({ certificate: { certificatePem: 'pem' } }), (given) => {
    parsed(() => parseEnrolmentAnswer(given), isTyped)
  })
})
