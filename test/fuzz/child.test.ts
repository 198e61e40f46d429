/** What the control plane parses of a child VM, in which anything may run. */
import * as fc from 'fast-check'
import { describe, expect } from 'vitest'
import { createChildLines } from '../../src/transfer/child-lines.ts'
import { parseFromChild, type FromChild } from '../../src/transfer/child-messages.ts'
import { TransferError } from '../../src/transfer/transfer-error.ts'
import { bytesLike, fuzz, jsonLike, jsonTextLike, parsed } from './support/fuzz.ts'

const isTyped = (error: unknown) => error instanceof TransferError && error.code === 'PROTOCOL'

const messages: FromChild[] = [
  { type: 'HELLO', runtime: 'node', version: '18.20.4', libraries: { lodash: '4.17.21' }, protocol: 1 },
  { type: 'READY', libraries: { numpy: '1.24.2' }, warmUpMs: 100 },
  { type: 'WARM_UP_FAILED', message: 'no' },
  { type: 'IDENTIFIED' },
  { type: 'PROGRAM_READY' },
  { type: 'PROGRAM_FAILED', message: 'no' },
  { type: 'STARTED', indices: [1, 2] },
  { type: 'RESULT', index: 1, attempt: 1, output: { a: [1] }, durationMs: 1.5 },
  { type: 'TASK_FAILED', index: 1, attempt: 1, message: 'no', timedOut: false },
  { type: 'LOG', index: 1, text: 'text' },
  { type: 'SEND', from: 1, to: 2, body: [null] },
  { type: 'BARRIER', index: 1, name: 'here', size: 2 },
]

describe('messages of a child', () => {
  for (const message of messages) {
    fuzz(
      `${message.type}: refused, or the same when parsed again`,
      jsonLike(message),
      (given) => {
        const first = parsed(() => parseFromChild(JSON.stringify(given) ?? ''), isTyped)
        if (first) expect(parseFromChild(JSON.stringify(first))).toEqual(first)
      },
      200,
    )
    fuzz(
      `${message.type}: broken text is refused, or can be written again`,
      jsonTextLike(message),
      (bytes) => {
        const first = parsed(() => parseFromChild(bytes.toString('utf8')), isTyped)
        if (first) expect(typeof JSON.stringify(first)).toBe('string')
      },
      200,
    )
  }
  fuzz(
    'a stream gives the same lines in whatever pieces',
    fc.tuple(
      bytesLike(fc.constant(Buffer.from(messages.map((message) => `${JSON.stringify(message)}\n`).join('')))),
      fc.integer({ min: 1, max: 99 }),
    ),
    ([stream, length]) => {
      const pieces = Array.from({ length: Math.ceil(stream.length / length) }, (_, index) =>
        stream.subarray(index * length, (index + 1) * length),
      )
      const lines = createChildLines()
      expect(pieces.flatMap((piece) => lines.push(piece))).toEqual(stream.toString('utf8').split('\n').slice(0, -1))
    },
  )
})
