/** What a reader is shown of a guest's serial console, on which a guest writes whatever it likes. */
import * as fc from 'fast-check'
import { describe, expect } from 'vitest'
import { consoleBytes, consoleText } from '../../src/plugin-sdk/index.ts'
import { bytesLike, fuzz } from './support/fuzz.ts'

/** Neither what steers a terminal nor what turns text around; half a character is none either. */
function expectPlain(text: string): void {
  expect(text).not.toMatch(/[^\P{Cc}\t\n]|\p{Bidi_Control}/u)
  expect(text.isWellFormed()).toBe(true)
  const bytes = Buffer.from(text)
  if (bytes.length <= consoleBytes) expect(consoleText(bytes)).toBe(text)
}

const plain = fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => text.replace(/[\p{Cc}\p{Bidi_Control}\ufeff]/gu, ''))
const obeyed = fc.oneof(
  fc.tuple(fc.stringMatching(/^[0-?]{0,9}[ -/]{0,3}$/), fc.stringMatching(/^[@-~]$/)).map(([inside, end]) => `\u001b[${inside}${end}`),
  fc
    .tuple(fc.constantFrom(']', 'P', 'X', '^', '_'), plain, fc.constantFrom('\u0007', '\u001b\\'))
    .map(([kind, inside, end]) => `\u001b${kind}${inside.replace(/\\/g, '')}${end}`),
  fc.constantFrom('\u001bc', '\u001b7', '\u001b(B', '\u001b#8', '\u001bM', '\u0007', '\r', '\b', '\u007f', '\u202e', '\u2066', '\u061c'),
)

describe('console text', () => {
  fuzz(
    'is plain, whatever bytes come',
    bytesLike(fc.array(fc.oneof(plain, obeyed)).map((parts) => Buffer.from(parts.join('')))),
    (bytes) => expectPlain(consoleText(bytes)),
    1_000,
  )

  fuzz('is what was written, without what a terminal obeys', fc.array(fc.tuple(plain, obeyed)), (parts) => {
    const written = parts.map(([text, sequence]) => text + sequence).join('')
    const expected = parts.map(([text]) => text).join('')
    expect(consoleText(Buffer.from(written))).toBe(expected)
  })

  const pattern = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 90 }).map((bytes) => Buffer.from(bytes)),
    fc.constantFrom('\u001b[', '\u001b]', '\u001b]x\u001b', '\u001b ', 'é', '🚚', '\n', '\u001b[0;').map((text) => Buffer.from(text)),
  )
  fuzz(
    'of much is the end of it, from the start of a line where there is one',
    fc.tuple(pattern, fc.integer({ min: -2, max: 5_000 }), fc.constantFrom('', 'line\n', '\nlast')),
    ([repeated, more, end]) => {
      const bytes = Buffer.concat([Buffer.alloc(consoleBytes + more, repeated), Buffer.from(end)])
      const text = consoleText(bytes)
      expectPlain(text)
      expect(text.length).toBeLessThanOrEqual(consoleBytes)
      // What stands before it does not count, and where that is cut may be in the middle of a character or a sequence.
      const newest = bytes.subarray(-consoleBytes)
      const lineEnd = newest.indexOf('\n')
      if (bytes.length > consoleBytes && lineEnd >= 0) expect(text).toBe(consoleText(newest.subarray(lineEnd + 1)))
    },
    40,
  )
})
