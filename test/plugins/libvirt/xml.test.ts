import { assert, integer, property, string } from 'fast-check'
import { expect, test } from 'vitest'
import { childAt, childrenNamed, element, readXml, textOf, writeXml } from '../../../plugins/libvirt/xml.ts'

test('what is written is read back, whatever characters XML allows are in it', () => {
  const text = string({ unit: integer({ min: 0, max: 0x10ffff }).map((point) => String.fromCodePoint(point)) })
    .filter((value) => value.isWellFormed())
    // The characters that XML cannot hold are what this test is about.
    // oxlint-disable-next-line no-control-regex
    .map((value) => value.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, ''))
  assert(
    property(text, text, (attribute, content) => {
      const tree = element('domain', { name: attribute }, element('title', {}, `.${content}`))
      expect(readXml(writeXml(tree))).toEqual(tree)
    }),
  )
})

test('a name that is XML stays a name', () => {
  const name = `</name><name>"evil" & 'worse'<!--`
  const written = writeXml(element('domain', { id: name }, element('name', {}, name)))
  expect(textOf(childAt(readXml(written), 'name'))).toBe(name)
  expect(childrenNamed(readXml(written), 'name')).toHaveLength(1)
})

test('characters that XML can not hold are refused, not dropped', () => {
  for (const text of ['a\u0000b', '\u001b[31m', 'half \ud800', '\uffff'])
    expect(() => writeXml(element('name', {}, text))).toThrow(RangeError)
})

test('comments, instructions, CDATA, empty elements and either kind of quote are understood', () => {
  const tree = readXml(`<?xml version="1.0"?>
    <!-- by hand -->
    <network ipv6='yes' note="it's"><name>a<![CDATA[<&>]]>b</name><bridge name='b0'/>&#233;&#xe9;</network>`)
  expect(tree.attributes).toEqual({ ipv6: 'yes', note: "it's" })
  expect(textOf(childAt(tree, 'name'))).toBe('a<&>b')
  expect(childAt(tree, 'bridge')?.attributes).toEqual({ name: 'b0' })
  expect(textOf(tree)).toBe('éé')
})

test('elements are found with and without a prefix', () => {
  const tree = readXml(`<domain><metadata><p:machine xmlns:p="u" stage="landing"/></metadata></domain>`)
  expect(childAt(tree, 'metadata', 'machine')?.attributes['stage']).toBe('landing')
})

test.each([
  ['', 'not one whole'],
  ['<a>', 'not one whole'],
  ['<a></b>', 'closed where'],
  ['<a/><b/>', 'not one whole'],
  ['<a b=c/>', 'Broken XML'],
  ['<a>&evil;</a>', 'Unknown XML entity'],
  ['<a>&amp</a>', 'Unknown XML entity'],
  ['error: no such thing', 'not one whole'],
  ['<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', 'Broken XML'],
])('%j is refused', (text, why) => {
  expect(() => readXml(text)).toThrow(why)
})
