import { expect, test } from 'vitest'
import { nameRule as ofLibvirt } from '../../plugins/libvirt/name-rule.ts'
import { nameRule as ofQemu } from '../../plugins/qemu/name-rule.ts'
import { nameFault } from '../../src/plugin-sdk/index.ts'

test('a provider without a rule takes every name', () => {
  expect(nameFault(undefined, '../..\n')).toBeNull()
})

test.each(['web', ' web 1 ', '...', '-rf', '; rm -rf ~ #', 'quo\'te"d <b>&amp;', '🚚 déménagement', 'x'.repeat(200), '\u0080'])(
  'both take %j',
  (name) => {
    for (const rule of [ofLibvirt, ofQemu]) expect(nameFault(rule, name)).toBeNull()
  },
)

test.each(['', '   ', '.', '..', 'a/b', 'two\nlines', 'tab\t', '\u0000', '\u007f', 'x'.repeat(201), 'ä'.repeat(101), '\ud800', '\uffff'])(
  'libvirt takes no %j, and says why',
  (name) => {
    expect(nameFault(ofLibvirt, name)).toMatch(/1 to 200 bytes/)
  },
)

test.each(['', 'x'.repeat(1025), '\ud800'])('qemu takes no %j', (name) => {
  expect(nameFault(ofQemu, name)).toMatch(/1 to 1024 bytes/)
})
