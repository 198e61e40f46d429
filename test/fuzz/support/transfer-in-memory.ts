/** A disk and one end of a data connection, both without the machine under them. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { DiskDevice } from '../../../src/agents/migration/disk-device.ts'
import { blockBytes } from '../../../src/transfer/block-grain.ts'
import type { Channel } from '../../../src/transfer/channel.ts'
import { frameTypes } from '../../../src/transfer/data-messages.ts'
import type { Frame } from '../../../src/transfer/frame.ts'
import { TransferError } from '../../../src/transfer/transfer-error.ts'

/** Holds the blocks that were written, the others are zero. Its end is past `diskBytes`, so that writing there is seen and not prevented. */
export function diskInMemory(): { device: DiskDevice; readonly furthestByte: number; block(number: number): Buffer } {
  const held = new Map<number, Buffer>()
  const block = (number: number) => held.get(number) ?? Buffer.alloc(blockBytes)
  let furthestByte = 0
  const pieces = (buffer: Buffer, first: number) =>
    Array.from({ length: Math.ceil(buffer.length / blockBytes) }, (_, index) => ({
      number: first + index,
      piece: buffer.subarray(index * blockBytes, (index + 1) * blockBytes),
    }))
  return {
    device: {
      path: 'memory',
      async read(into, first) {
        for (const { number, piece } of pieces(into, first)) block(number).copy(piece)
      },
      async write(from, first) {
        furthestByte = Math.max(furthestByte, first * blockBytes + from.length)
        for (const { number, piece } of pieces(from, first)) {
          const whole = Buffer.from(block(number))
          piece.copy(whole)
          held.set(number, whole)
        }
      },
      flush: async () => {},
      close: async () => {},
    },
    get furthestByte() {
      return furthestByte
    },
    block,
  }
}

export interface ChannelInMemory extends Channel {
  /** A frame of the peer. As in a real channel, a handler that throws closes it. */
  receive(frame: Frame): void
  readonly sent: { type: number; sequence: number; payload: Buffer }[]
  /** Whether the reading is stopped, so that the peer would feel it. */
  readonly paused: boolean
  readonly isClosed: boolean
}

export function channelInMemory(): ChannelInMemory {
  const closed = Promise.withResolvers<TransferError>()
  const sent: ChannelInMemory['sent'] = []
  let reason: TransferError | null = null
  let paused = false
  let onFrame: ((frame: Frame) => void) | null = null
  function close(why: TransferError): void {
    reason ??= why
    closed.resolve(reason)
  }
  return {
    async send(type, sequence, ...parts) {
      if (reason) throw reason
      sent.push({ type, sequence, payload: Buffer.concat(parts) })
    },
    start: (handler) => void (onFrame = handler),
    pause: () => void (paused = true),
    resume: () => void (paused = false),
    wireBytes: 0,
    closed: closed.promise,
    close,
    receive(frame) {
      if (reason) return
      try {
        onFrame?.(frame)
      } catch (error) {
        close(error instanceof TransferError ? error : new TransferError('INTERNAL', String(error), { retryable: true, cause: error }))
      }
    },
    sent,
    get paused() {
      return paused
    },
    get isClosed() {
      return reason !== null
    },
  }
}

export const frame = (type: number, sequence: number, payload: Buffer): Frame => ({
  type,
  sequence,
  payload: [payload],
  payloadBytes: payload.length,
})

/** Why a peer is gone that said nothing. */
export const hangUp = new TransferError('LINK_LOST', 'the other side closed it', { retryable: true })

/** Until it was answered, or can't be any more. */
export async function answered(
  channel: ChannelInMemory,
  sequence: number,
  turns = Infinity,
): Promise<ChannelInMemory['sent'][number] | undefined> {
  for (let turn = 0; turn < turns && !channel.isClosed; turn++) {
    const found = channel.sent.find((said) => said.sequence === sequence || said.type === frameTypes.failed)
    if (found) return found
    await nextTurn()
  }
  return undefined
}
