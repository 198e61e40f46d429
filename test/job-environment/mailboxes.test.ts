import { expect, test } from 'vitest'
import { createMailboxes } from '../../src/job-environment/mailboxes.ts'

const hello = { from: 0, to: 1, body: 'hello' }

test('a receiver that runs again finds what had come before', () => {
  const mailboxes = createMailboxes(1_000)
  expect(mailboxes.send(hello)).toBe(true)
  expect(mailboxes.began(1)).toEqual([hello])
  expect(mailboxes.began(1)).toEqual([hello])
})

test('what a sender that runs again sends again is dropped, and what it sends more is not', () => {
  const mailboxes = createMailboxes(1_000)
  mailboxes.send(hello)
  mailboxes.began(0)
  expect(mailboxes.send(hello)).toBe(false)
  expect(mailboxes.send({ ...hello, body: 'more' })).toBe(true)
  expect(mailboxes.began(1)).toHaveLength(2)
})

test('what is kept is bounded, and freed when the receiver has ended', () => {
  const mailboxes = createMailboxes(20)
  mailboxes.send({ ...hello, body: 'x'.repeat(15) })
  expect(() => mailboxes.send(hello)).toThrow(/exceed 20 bytes/)
  mailboxes.ended(1)
  expect(mailboxes.send({ from: 0, to: 2, body: 'x'.repeat(15) })).toBe(true)
  expect(mailboxes.send(hello)).toBe(false)
})
