import { expect, test } from 'vitest'
import { faultInExcludedDirectories } from '../../src/domain/excluded-directories.ts'

test('directories of a guest are taken when they are named in the one plain way', () => {
  expect(faultInExcludedDirectories([])).toBeNull()
  expect(faultInExcludedDirectories(['/var/cache', '/home/ana/.cache', '/srv/with blanks and ünïcode'])).toBeNull()
})

test.each([
  [['/'], 'the root directory'],
  [['var/cache'], 'not an absolute path'],
  [['/var/../etc'], 'without "." and ".."'],
  [['/var/./cache'], 'without "." and ".."'],
  [['/var//cache'], 'doubled slashes'],
  [['/var/cache/'], 'a slash at its end'],
  [['/var/ca\nche'], 'control characters'],
  [['/a', '/a'], 'twice'],
  [[`/${'x'.repeat(4096)}`], 'longer than 4096 bytes'],
  [Array.from({ length: 101 }, (_, index) => `/d${index}`), '101 directories'],
])('%j is refused: %s', (directories, reason) => {
  expect(faultInExcludedDirectories(directories)).toContain(reason)
})
