import { expect, test } from 'vitest'
import { requireSound } from '../../src/cli/require-sound.ts'

const sound = { tasks: 40, tasksDone: 40, duplicates: 0, parentUnchanged: true }

test('a job whose tasks are all done once, and whose parent is what it was, is sound', () => {
  expect(() => requireSound(sound)).not.toThrow()
})

test.each([
  [{ tasksDone: 39 }, '39 of 40 tasks are done'],
  [{ duplicates: 1 }, '1 outputs came twice'],
  [{ parentUnchanged: false }, "the parent VM's memory or disk has changed"],
])('one with %j is not', (change, sentence) => {
  expect(() => requireSound({ ...sound, ...change })).toThrow(sentence)
})
