import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createFrameDecoder, encodeFrameHeader, frameHeaderBytes, maxPayloadBytes, type Frame } from '../../src/transfer/frame.ts'
import { TransferError } from '../../src/transfer/transfer-error.ts'

const frames = fc.array(
  fc.record({
    type: fc.integer({ min: 0, max: 255 }),
    sequence: fc.integer({ min: 0, max: 0xffff_ffff }),
    payload: fc.uint8Array({ maxLength: 300 }),
  }),
  { minLength: 1, maxLength: 8 },
)
type Sent = { type: number; sequence: number; payload: Uint8Array }

function streamOf(sent: Sent[]): Buffer {
  return Buffer.concat(
    sent.flatMap(({ type, sequence, payload }) => [encodeFrameHeader(type, sequence, payload.length), Buffer.from(payload)]),
  )
}
function plain(frame: Frame): Sent {
  return { type: frame.type, sequence: frame.sequence, payload: new Uint8Array(Buffer.concat(frame.payload)) }
}
/** Cuts the stream at the given places. */
function* pieces(stream: Buffer, cuts: number[]): Generator<Buffer> {
  const places = [...new Set(cuts.map((cut) => cut % (stream.length + 1)))].toSorted((a, b) => a - b)
  let from = 0
  for (const place of [...places, stream.length]) {
    yield stream.subarray(from, place)
    from = place
  }
}
function failureOf(work: () => void): unknown {
  try {
    work()
  } catch (error) {
    return error
  }
  return null
}

describe('the frame codec', () => {
  test('writes these bytes', () => {
    expect(encodeFrameHeader(8, 0x01020304, 5).toString('hex')).toBe('080100000000000501020304e3cfc4f0')
  })

  test('gives back what was framed, however the stream is cut', () => {
    fc.assert(
      fc.property(frames, fc.array(fc.nat(), { maxLength: 20 }), (sent, cuts) => {
        const decoder = createFrameDecoder()
        const received = [...pieces(streamOf(sent), cuts)].flatMap((piece) => decoder.push(piece).map(plain))
        decoder.end()
        expect(received).toEqual(sent)
      }),
    )
  })

  test('notices a stream that ends within a frame', () => {
    fc.assert(
      fc.property(frames, fc.nat(), (sent, at) => {
        const stream = streamOf(sent)
        const boundaries = new Set([0])
        let end = 0
        for (const { payload } of sent) boundaries.add((end += frameHeaderBytes + payload.length))
        const cut = at % stream.length
        const decoder = createFrameDecoder()
        decoder.push(stream.subarray(0, cut))
        const failure = failureOf(() => decoder.end())
        if (boundaries.has(cut)) expect(failure).toBeNull()
        else expect(failure).toMatchObject({ code: 'PROTOCOL', retryable: true })
      }),
    )
  })

  test('notices any flipped bit of a header', () => {
    const stream = streamOf([{ type: 8, sequence: 7, payload: new Uint8Array(3) }])
    for (let bit = 0; bit < frameHeaderBytes * 8; bit++) {
      const flipped = Buffer.from(stream)
      flipped[bit >> 3]! ^= 1 << (bit & 7)
      expect(
        failureOf(() => createFrameDecoder().push(flipped)),
        `bit ${bit}`,
      ).toBeInstanceOf(TransferError)
    }
  })

  test('never answers rubbish with anything but a typed error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (rubbish) => {
        const failure = failureOf(() => createFrameDecoder().push(Buffer.from(rubbish)))
        if (failure !== null) expect(failure).toBeInstanceOf(TransferError)
      }),
    )
  })

  test('frames no payload beyond its limit', () => {
    expect(() => encodeFrameHeader(1, 1, maxPayloadBytes + 1)).toThrow(RangeError)
  })
})
