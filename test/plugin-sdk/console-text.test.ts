import { expect, test } from 'vitest'
import { consoleText } from '../../src/plugin-sdk/index.ts'

const shown = (text: string) => consoleText(Buffer.from(text))

test('plain text stays, whatever its language', () => {
  expect(shown('Linux 6.1\n\tlogin: démarré 🚚\n')).toBe('Linux 6.1\n\tlogin: démarré 🚚\n')
})

test.each([
  ['colours', '[\u001b[0;32m  OK  \u001b[0m] Started ssh', '[  OK  ] Started ssh'],
  ['a cleared screen', '\u001bc\u001b[?7l\u001b[2J\u001b[0mSeaBIOS', 'SeaBIOS'],
  ['a window title', 'a\u001b]0;rm -rf\u0007b\u001b]2;x\u001b\\c', 'abc'],
  ['a sequence that never ends', 'a\u001b]0;secret', 'a'],
  ['line ends of a terminal', 'one\r\ntwo\r\n', 'one\ntwo\n'],
  ['bells, zero bytes and eight-bit controls', 'a\u0000\u0007\u009bb\u007f', 'ab'],
  ['text that is turned around', 'safe \u202egnp.exe\u2066', 'safe gnp.exe'],
])('%s: what a terminal would obey is taken out', (_, written, read) => {
  expect(shown(written)).toBe(read)
})

test('the end of more begins with a whole line, and broken characters do no harm', () => {
  const text = consoleText(Buffer.from(`${'é'.repeat(40_000)}\nlast line\n`))
  expect(text).toBe('last line\n')
  expect(consoleText(Buffer.from([0x61, 0xff, 0xfe, 0x62]))).toBe('a��b')
  expect(consoleText(new Uint8Array())).toBe('')
})

test('a console without line ends is shown as far as there is room', () => {
  expect(consoleText(Buffer.alloc(100_000, 'x'))).toBe('x'.repeat(65_536))
})
