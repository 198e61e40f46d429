/** What the destination answers the source, in any order, asked for or not. */
import * as fc from 'fast-check'
import { describe, expect } from 'vitest'
import { createPeerConversation } from '../../src/agents/migration/peer-conversation.ts'
import { encodeJson, frameTypes } from '../../src/transfer/data-messages.ts'
import { TransferError } from '../../src/transfer/transfer-error.ts'
import { bytesLike, fuzz } from './support/fuzz.ts'
import { channelInMemory, frame, hangUp } from './support/transfer-in-memory.ts'

describe('the source', () => {
  const answerTypes = [frameTypes.opened, frameTypes.digests, frameTypes.leaves, frameTypes.barrierDone, frameTypes.excludeDone]
  const failed = encodeJson({ code: 'DISK_WRITE_FAILED', message: 'm', retryable: true })
  const answer = fc.tuple(
    fc.oneof(fc.constantFrom(...answerTypes, frameTypes.verified, frameTypes.mismatch, frameTypes.failed), fc.nat(20)),
    fc.nat(7),
    bytesLike(fc.constantFrom(Buffer.from([1]), Buffer.alloc(0), failed)),
  )
  fuzz(
    'is answered what it asked, or told why not, and believes nothing else',
    fc.tuple(fc.array(fc.constantFrom(...answerTypes), { maxLength: 6 }), fc.array(answer, { maxLength: 12 })),
    async ([asked, said]) => {
      const channel = channelInMemory()
      const believed: number[] = []
      const note = (sequence: number) => void believed.push(sequence)
      const conversation = createPeerConversation(channel, { verified: note, mismatch: note })
      const answers = asked.map((type) => conversation.ask(frameTypes.barrier, Buffer.alloc(0), type))
      const settled = Promise.allSettled(answers)
      for (const [type, sequence, payload] of said) channel.receive(frame(type, sequence, payload))
      channel.close(hangUp)
      const reason = await channel.closed
      expect(reason).toBeInstanceOf(TransferError)
      expect(['LINK_LOST', 'PROTOCOL', 'DISK_WRITE_FAILED', 'INTERNAL']).toContain(reason.code)
      for (const [index, result] of (await settled).entries()) {
        if (result.status === 'rejected') expect(result.reason).toBe(reason)
        else expect([result.value.type, result.value.sequence]).toEqual([asked[index], index + 1])
      }
      const told = said.filter(([type]) => type === frameTypes.verified || type === frameTypes.mismatch).map(([, sequence]) => sequence)
      expect(told.slice(0, believed.length)).toEqual(believed)
      await expect(conversation.ask(frameTypes.barrier, Buffer.alloc(0), frameTypes.barrierDone)).rejects.toBe(reason)
    },
  )
})
