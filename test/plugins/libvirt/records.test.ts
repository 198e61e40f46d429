import { expect, test } from 'vitest'
import { records } from '../../../plugins/libvirt/records.ts'
import type { Site } from '../../../plugins/libvirt/site.ts'

const uuids = ['11111111-1111-8111-a111-111111111111', '22222222-2222-8222-a222-222222222222']
const key = (uuid: string) => `migration.m.1.${uuid[0] === '1' ? 'started' : 'outcome'}`
const table = uuids.map((uuid) => ` ${uuid}   volume   /portolan/record/${key(uuid)}`).join('\n')
const secret = (uuid: string) =>
  `<secret><uuid>${uuid}</uuid><description>${JSON.stringify({ key: key(uuid), writtenAt: '2026-11-23T12:00:00.000Z', content: {} })}</description></secret>`

/** A libvirtd that is asked for the two, and answers virsh with some of them: virsh goes on after what it did not get, and ends well. */
const recordsOf = (given: string[]) =>
  records({
    client: { call: async ([command]: string[]) => (command === 'secret-list' ? table : given.map(secret).join('\n\n')) },
  } as unknown as Site)

test.each([[[]], [[uuids[0]!]], [[uuids[1]!]]])(
  'of a list that broke off nothing is said: a record that was not read is not absent',
  async (given) => {
    await expect(recordsOf(given).list({ keyPrefix: 'migration.' })).rejects.toMatchObject({ code: 'UNREACHABLE', retryable: true })
  },
)

test('a whole list is one', async () => {
  expect((await recordsOf(uuids).list({ keyPrefix: 'migration.' })).map((record) => record.key)).toEqual(uuids.map(key).toSorted())
})
