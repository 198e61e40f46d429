import { describe, expect, test } from 'vitest'
import { createChildLines } from '../../src/transfer/child-lines.ts'
import { encodeToChild, maxLineBytes, maxLogLength, maxValueBytes, parseFromChild } from '../../src/transfer/child-messages.ts'

const refused = expect.objectContaining({ name: 'TransferError', code: 'PROTOCOL', retryable: true })
const parse = (message: unknown) => parseFromChild(JSON.stringify(message))

describe('what a child sends', () => {
  test.for([
    { type: 'HELLO', runtime: 'python', version: '3.11.2', libraries: { numpy: '1.24.2' }, protocol: 1 },
    { type: 'READY', libraries: {}, warmUpMs: 12.5 },
    { type: 'WARM_UP_FAILED', message: '' },
    { type: 'IDENTIFIED' },
    { type: 'PROGRAM_READY' },
    { type: 'PROGRAM_FAILED', message: 'SyntaxError: x (line 3)' },
    { type: 'STARTED', indices: [0, 99_999] },
    { type: 'RESULT', index: 1, attempt: 2, output: { deep: [null, 1, 'ü'] }, durationMs: 0 },
    { type: 'TASK_FAILED', index: 1, attempt: 1, message: 'no', timedOut: true },
    { type: 'LOG', index: 3, text: 'a\nb' },
    { type: 'SEND', from: 0, to: 1, body: null },
    { type: 'BARRIER', index: 0, name: 'half way', size: 2 },
  ])('$type is read as it is, less what nobody knows', (message) => {
    expect(parse(message)).toEqual(message)
    expect(parse({ ...message, more: 1 })).toEqual(message)
  })

  test.for([
    '',
    'null',
    '[]',
    '{}',
    '{"type":"toString"}',
    '{"type":"HELLO","runtime":"ruby","version":"1","libraries":{},"protocol":1}',
    '{"type":"HELLO","runtime":"node","version":"1","libraries":[],"protocol":1}',
    '{"type":"HELLO","runtime":"node","version":"1","libraries":{"a":1},"protocol":1}',
    '{"type":"STARTED","indices":[]}',
    '{"type":"STARTED","indices":[1.5]}',
    '{"type":"RESULT","index":-1,"attempt":1,"output":1,"durationMs":1}',
    '{"type":"RESULT","index":100000,"attempt":1,"output":1,"durationMs":1}',
    '{"type":"RESULT","index":1,"attempt":0,"output":1,"durationMs":1}',
    '{"type":"RESULT","index":1,"attempt":1,"durationMs":1}',
    '{"type":"RESULT","index":1,"attempt":1,"output":1,"durationMs":1e999}',
    '{"type":"BARRIER","index":0,"name":"","size":2}',
    '{"type":"BARRIER","index":0,"name":"a","size":0}',
    '{"type":"LOG","index":0,"text":5}',
  ])('%s is refused', (line) => {
    expect(() => parseFromChild(line)).toThrow(refused)
  })

  test('an output is refused when it is too long, or nested so that nobody could write it again', () => {
    const result = (output: string) => `{"type":"RESULT","index":1,"attempt":1,"output":${output},"durationMs":1}`
    expect(() => parseFromChild(result(`"${'x'.repeat(maxValueBytes + 1_024)}"`))).toThrow(refused)
    expect(() => parseFromChild(result('['.repeat(200_000) + ']'.repeat(200_000)))).toThrow(refused)
    const brackets = '['.repeat(1_000)
    expect(parseFromChild(result(JSON.stringify(`"${brackets}`)))).toMatchObject({ output: `"${brackets}` })
  })

  test('what people read is cut instead', () => {
    expect(parse({ type: 'LOG', index: 1, text: 'x'.repeat(maxLogLength + 5) })).toEqual({
      type: 'LOG',
      index: 1,
      text: `${'x'.repeat(maxLogLength)}…`,
    })
    expect(parse({ type: 'PROGRAM_FAILED', message: 'x'.repeat(5_000) })).toMatchObject({ message: `${'x'.repeat(4_096)}…` })
  })
})

describe('what a child is told', () => {
  test('is one line', () => {
    const line = encodeToChild({ type: 'WARM_UP', program: 'a\nb\u2028' })
    expect(line.indexOf('\n')).toBe(line.length - 1)
    expect(JSON.parse(line)).toEqual({ type: 'WARM_UP', program: 'a\nb\u2028' })
  })
  test('is refused where it is too long', () => {
    const longest = maxLineBytes - JSON.stringify({ type: 'WARM_UP', program: '' }).length
    expect(encodeToChild({ type: 'WARM_UP', program: 'x'.repeat(longest) })).toHaveLength(maxLineBytes + 1)
    expect(() => encodeToChild({ type: 'WARM_UP', program: 'x'.repeat(longest + 1) })).toThrow(
      expect.objectContaining({ code: 'INVALID_REQUEST', retryable: false }),
    )
    expect(() => encodeToChild({ type: 'WARM_UP', program: '€'.repeat(longest / 2) })).toThrow(/at most/)
  })
})

describe('lines', () => {
  test('come out whole, in whatever pieces they came', () => {
    const stream = Buffer.from('{"a":"ü"}\n\n{"b":2}\nrest')
    for (let length = 1; length <= stream.length; length++) {
      const lines = createChildLines()
      const found: string[] = []
      for (let at = 0; at < stream.length; at += length) found.push(...lines.push(stream.subarray(at, at + length)))
      expect(found).toEqual(['{"a":"ü"}', '', '{"b":2}'])
    }
  })
  test('are refused as soon as they are too long', () => {
    const lines = createChildLines()
    const mebibyte = Buffer.alloc(1 << 20, 0x78)
    for (let count = 0; count < 8; count++) expect(lines.push(mebibyte)).toEqual([])
    expect(() => lines.push(Buffer.from('x'))).toThrow(refused)
  })
})
