import { afterEach, expect, test, vi } from 'vitest'
import { rotating } from './rotating.ts'

afterEach(() => vi.unstubAllEnvs())

const parts = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l']

function chosenOn(seed: string) {
  vi.stubEnv('PORTOLAN_TEST_FULL', undefined)
  vi.stubEnv('PORTOLAN_TEST_SEED', seed)
  return rotating(parts)
}

test('over as many days as there are parts every part comes once, over the end of a month too', () => {
  const days = parts.map((_, day) => new Date(Date.UTC(2026, 1, 22 + day)).toISOString().slice(0, 10))
  expect(days.flatMap(chosenOn).toSorted()).toEqual(parts)
})

test('any other seed chooses one part, always the same', () => {
  expect(chosenOn('a seed')).toHaveLength(1)
  expect(chosenOn('a seed')).toEqual(chosenOn('a seed'))
  expect(chosenOn('2026-99-99')).toHaveLength(1)
})

test('npm run test:full has them all', () => {
  vi.stubEnv('PORTOLAN_TEST_FULL', '1')
  expect(rotating(parts)).toEqual(parts)
})
