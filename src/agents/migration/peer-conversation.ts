import type { Channel } from '../../transfer/channel.ts'
import { decodeJson, decodePeerWait, frameTypes, type PeerWait } from '../../transfer/data-messages.ts'
import type { Frame } from '../../transfer/frame.ts'
import { TransferError } from '../../transfer/transfer-error.ts'

/** The source's side of one connection: what it asks and tells, and what comes back. */
export interface PeerConversation {
  readonly channel: Channel
  /** Resolves with the answer's frame. Rejects with the channel's end, or with what the destination says went wrong. */
  ask(type: number, payload: Buffer, answerType: number): Promise<Frame>
  /** Sends without an answer; `verified` or `mismatch` may follow under the sequence. */
  tell(type: number, ...parts: Buffer[]): { sequence: number; sent: Promise<void> }
}

export function createPeerConversation(
  channel: Channel,
  on: { verified: (sequence: number, peerWait: PeerWait) => void; mismatch: (sequence: number) => void },
): PeerConversation {
  const waiting = new Map<number, { answerType: number; resolve: (frame: Frame) => void; reject: (error: TransferError) => void }>()
  let lastSequence = 0

  channel.start((frame) => {
    if (frame.type === frameTypes.verified) return on.verified(frame.sequence, decodePeerWait(frame))
    if (frame.type === frameTypes.mismatch) return on.mismatch(frame.sequence)
    const asked = waiting.get(frame.sequence)
    if (frame.type === frameTypes.failed) return channel.close(peerFailure(decodeJson(frame)))
    if (!asked || asked.answerType !== frame.type) {
      throw new TransferError('PROTOCOL', `The destination sent a frame of type ${frame.type} that nobody asked for.`, { retryable: true })
    }
    waiting.delete(frame.sequence)
    asked.resolve(frame)
  })
  void rejectAtEnd()
  async function rejectAtEnd(): Promise<void> {
    const reason = await channel.closed
    for (const asked of waiting.values()) asked.reject(reason)
    waiting.clear()
  }

  return {
    channel,
    ask(type, payload, answerType) {
      const sequence = ++lastSequence
      return new Promise((resolve, reject) => {
        waiting.set(sequence, { answerType, resolve, reject })
        channel.send(type, sequence, payload).catch(reject)
      })
    },
    tell(type, ...parts) {
      const sequence = ++lastSequence
      return { sequence, sent: channel.send(type, sequence, ...parts) }
    },
  }
}

/** What the peer may report; anything else it says is its internal matter. */
const reportable = [
  'NOT_RECEIVING',
  'DISK_TOO_SMALL',
  'DISK_READ_FAILED',
  'DISK_WRITE_FAILED',
  'VERIFICATION_FAILED',
  'PROTOCOL',
  'INCOMPATIBLE',
] as const

function peerFailure(value: Record<string, unknown>): TransferError {
  const code = reportable.find((name) => name === value['code']) ?? 'INTERNAL'
  const message = typeof value['message'] === 'string' ? value['message'].slice(0, 2000) : 'it gave no reason'
  return new TransferError(code, `The destination's agent can't go on: ${message}`, { retryable: value['retryable'] === true })
}
