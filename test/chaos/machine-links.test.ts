import { expect, test } from 'vitest'
import { changeEach } from './machine-links.ts'

test('only ports that were changed count, and one that went with its machine is no failure', async () => {
  const there = new Set(['vnet0', 'vnet1'])
  const changed = await changeEach(
    async () => [...there],
    async (port) => {
      if (port === 'vnet0' || !there.delete(port)) return
      throw new Error('Cannot find device "vnet1"')
    },
  )
  expect(changed).toBe(1)
})

test('a port that is there and refuses is a failure', async () => {
  const change = () => Promise.reject(new Error('Operation not permitted'))
  await expect(changeEach(async () => ['vnet0'], change)).rejects.toThrow('not permitted')
})
