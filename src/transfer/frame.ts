/**
 * Frames on the data connection between two agents. A codec only: the caller knows what each type means, and in which turn it may come.
 *
 *   offset  bytes
 *   0       1      type
 *   1       1      format (1)
 *   2       2      0
 *   4       4      payload length, big endian, at most 2 MiB
 *   8       4      sequence, chosen by the sender, repeated in answers
 *   12      4      CRC-32 of bytes 0 to 11
 *   16      …      payload
 *
 * Checked: format, length, header's CRC. Not checked: the payload (TLS authenticates it, and each block's digest is compared after it was written and
 * read again), the type, the order of sequences.
 */
import { crc32 } from 'node:zlib'
import { TransferError } from './transfer-error.ts'

export const frameHeaderBytes = 16
export const maxPayloadBytes = 2 * 1024 * 1024
const format = 1

export interface Frame {
  type: number
  sequence: number
  /** As it came in, in pieces: a block is copied once, to where it is needed. */
  payload: Buffer[]
  payloadBytes: number
}

/** The header alone, so that the payload need not be copied to send it. */
export function encodeFrameHeader(type: number, sequence: number, payloadBytes: number): Buffer {
  if (payloadBytes > maxPayloadBytes) throw new RangeError(`A payload of ${payloadBytes} bytes is more than ${maxPayloadBytes}.`)
  const header = Buffer.alloc(frameHeaderBytes)
  header.writeUInt8(type, 0)
  header.writeUInt8(format, 1)
  header.writeUInt32BE(payloadBytes, 4)
  header.writeUInt32BE(sequence, 8)
  header.writeUInt32BE(crc32(header.subarray(0, 12)), 12)
  return header
}

export interface FrameDecoder {
  /** Takes the next piece of the stream, and gives the frames that it completes. Throws TransferError PROTOCOL; the decoder is of no use after that. */
  push(chunk: Buffer): Frame[]
  /** To be called at the end of the stream. Throws TransferError PROTOCOL when it ends within a frame. */
  end(): void
}

export function createFrameDecoder(): FrameDecoder {
  let header: Buffer = Buffer.alloc(0)
  let frame: Frame | null = null
  let missing = 0

  return {
    push(chunk) {
      const frames: Frame[] = []
      let rest = chunk
      for (;;) {
        if (!frame) {
          const wanted = frameHeaderBytes - header.length
          header =
            header.length === 0 && rest.length >= wanted ? rest.subarray(0, wanted) : Buffer.concat([header, rest.subarray(0, wanted)])
          rest = rest.subarray(Math.min(wanted, rest.length))
          if (header.length < frameHeaderBytes) return frames
          frame = decodeHeader(header)
          missing = frame.payloadBytes
          header = Buffer.alloc(0)
        }
        const piece = rest.subarray(0, missing)
        if (piece.length > 0) frame.payload.push(piece)
        missing -= piece.length
        rest = rest.subarray(piece.length)
        if (missing > 0) return frames
        frames.push(frame)
        frame = null
      }
    },
    end() {
      if (frame || header.length > 0) throw broken('it ends within a frame')
    },
  }
}

function decodeHeader(header: Buffer): Frame {
  if (header.readUInt32BE(12) !== crc32(header.subarray(0, 12))) throw broken("a header's checksum is wrong")
  if (header.readUInt8(1) !== format || header.readUInt16BE(2) !== 0)
    throw broken(`a header has format ${header.readUInt8(1)}, not ${format}`)
  const payloadBytes = header.readUInt32BE(4)
  if (payloadBytes > maxPayloadBytes) throw broken(`a payload of ${payloadBytes} bytes is announced, more than ${maxPayloadBytes}`)
  return { type: header.readUInt8(0), sequence: header.readUInt32BE(8), payload: [], payloadBytes }
}

function broken(reason: string): TransferError {
  return new TransferError('PROTOCOL', `The stream between the agents is broken: ${reason}. The connection is given up and made again.`, {
    retryable: true,
  })
}
