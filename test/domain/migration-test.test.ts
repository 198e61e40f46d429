import { expect, test } from 'vitest'
import { notTriedByTest } from '../../src/domain/migration-test.ts'

test('a test boot says what it did not try: always the fix-up, and what else the migration would do to the copy', () => {
  expect(notTriedByTest({})).toEqual([expect.stringMatching(/^The guest fix-up/)])
  expect(
    notTriedByTest({ addressing: [{ mac: '52:54:00:00:00:01', mode: 'DHCP' }], excludedDirectories: ['/var/tmp', '/var/cache'] }),
  ).toEqual([
    expect.stringMatching(/^The guest fix-up/),
    expect.stringMatching(/^The other addresses/),
    expect.stringMatching(/^Emptying the excluded directories \(\/var\/tmp, \/var\/cache\)/),
  ])
})
