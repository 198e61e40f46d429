import { afterAll, beforeAll, expect, test } from 'vitest'
import { PortolanError } from '../../src/domain/errors.ts'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { idOf, seed } from './seed.ts'

let api: ApiUnderTest
const tokens: Record<string, string> = {}
beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  for (const role of ['VIEWER', 'OPERATOR', 'ADMIN'] as const) tokens[role] = await api.tokenOf(role)
})
afterAll(() => api.stop())

interface Entry {
  sequence: number
  mutation: string
  outcome: string
  errorCode: string | null
  role: string
  tokenName: string
  subjectId: string | null
  input: unknown
}
const query = `query ($filter: AuditEntryFilter, $first: Int, $orderBy: AuditEntryOrder! = NEWEST_FIRST) {
  auditEntries(filter: $filter, first: $first, orderBy: $orderBy) {
    totalCount nodes { sequence mutation outcome errorCode role tokenName subjectId input idempotencyKey hash previousHash at apiToken { name } }
  }
}`
const read = async (variables: object = {}) =>
  (await api.run<{ auditEntries: { totalCount: number; nodes: Entry[] } }>(tokens['ADMIN']!, query, variables)).data.auditEntries
const newest = async () => (await read({ first: 1 })).nodes[0]

const pause = (
  role: string,
  input: object,
  document = 'mutation ($input: PauseMigrationInput!) { pauseMigration(input: $input) { __typename } }',
) => api.post(tokens[role]!, document, { input })
const m1 = idOf('Migration', 'm1')

test('what a role may not do is written down with who tried it', async () => {
  await pause('VIEWER', { idempotencyKey: 'k', migrationId: m1 })
  expect(await newest()).toMatchObject({
    mutation: 'pauseMigration',
    outcome: 'REFUSED',
    errorCode: 'FORBIDDEN',
    role: 'VIEWER',
    tokenName: 'a viewer',
    subjectId: m1,
    input: { idempotencyKey: 'k', migrationId: m1 },
  })
})

test('what the input, the present state or a fault of ours stands against is written down once, with its code', async () => {
  const before = (await read()).totalCount
  await pause('OPERATOR', { idempotencyKey: '', migrationId: m1 })
  expect(await newest()).toMatchObject({ outcome: 'REFUSED', errorCode: 'INVALID_INPUT', role: 'OPERATOR' })
  await pause('OPERATOR', { idempotencyKey: 'k', migrationId: 'no id' })
  expect(await newest()).toMatchObject({ outcome: 'REFUSED', errorCode: 'INVALID_INPUT', subjectId: null })
  api.behave({
    pauseMigration: () => Promise.reject(new PortolanError('NOT_ALLOWED_NOW', 'It has ended.', { retryable: false, remedy: '-' })),
  })
  await pause('OPERATOR', { idempotencyKey: 'k', migrationId: m1 })
  expect(await newest()).toMatchObject({ outcome: 'REFUSED', errorCode: 'NOT_ALLOWED_NOW' })
  api.behave({ pauseMigration: () => Promise.reject(new Error('disk on fire')) })
  await pause('OPERATOR', { idempotencyKey: 'k', migrationId: m1 })
  expect(await newest()).toMatchObject({ outcome: 'FAILED', errorCode: 'INTERNAL' })
  api.behave({})
  expect((await read()).totalCount).toBe(before + 4)
})

test('a mutation that is refused before its field runs is written down too', async () => {
  await pause('OPERATOR', { idempotencyKey: 7, migrationId: m1, secret: 'hunter2' })
  expect(await newest()).toMatchObject({ mutation: 'pauseMigration', outcome: 'REFUSED', input: { secret: '[withheld]', migrationId: m1 } })
})

/** Validation lets a variable with a default be null; the executor refuses it at the field. */
test.for([
  ['ID = "x"', '{ idempotencyKey: "k", migrationId: $v }', { idempotencyKey: 'k', migrationId: null }],
  ['PauseMigrationInput = { idempotencyKey: "k", migrationId: "x" }', '$v', null],
] as const)(
  'an argument that is refused at its field is written down, with the code that the client got: %s',
  async ([type, sent, input]) => {
    const before = (await read()).totalCount
    const document = `mutation ($v: ${type}) {
    done: pauseMigration(input: { idempotencyKey: "done", migrationId: "${m1}" }) { __typename }
    refused: pauseMigration(input: ${sent}) { __typename }
  }`
    const { errors } = await api.run(tokens['OPERATOR']!, document, { v: null })
    const { totalCount, nodes } = await read({ first: 2 })
    expect(totalCount).toBe(before + 2)
    expect(nodes).toMatchObject([
      { mutation: 'pauseMigration', outcome: 'REFUSED', errorCode: 'INVALID_REQUEST', input },
      { mutation: 'pauseMigration', outcome: 'DONE', idempotencyKey: 'done' },
    ])
    expect(errors).toMatchObject([{ path: ['refused'], extensions: { code: 'INVALID_REQUEST' } }])
  },
)

/** Each is sent without its $n, so that none of its fields runs. */
const refusedWhole: [what: string, document: string, variables: object, entries: object[]][] = [
  [
    'a variable with a name of its own',
    'mutation ($n: String!, $o: JSON!) { connectCloud(input: { idempotencyKey: "k", name: $n, pluginId: "p", options: $o }) { __typename } }',
    { o: { secretAccessKey: 'hunter2' } },
    [{ mutation: 'connectCloud', idempotencyKey: 'k', input: { idempotencyKey: 'k', pluginId: 'p', options: '[withheld]' } }],
  ],
  [
    'a member of the input by a variable',
    'mutation ($n: String!, $value: String!) { setWebhookSecret(input: { idempotencyKey: "k", name: $n, secret: $value }) { __typename } }',
    { value: 'hunter2' },
    [{ mutation: 'setWebhookSecret', input: { idempotencyKey: 'k', secret: '[withheld]' } }],
  ],
  [
    'a literal, and a second mutation in a fragment',
    `mutation ($n: String!, $m: ID!) { ...f ... { pauseMigration(input: { idempotencyKey: $n, migrationId: $m }) { __typename } } }
     fragment f on Mutation { setWebhookSecret(input: { idempotencyKey: "k", name: $n, secret: "hunter2" }) { __typename } ...g ...g }
     fragment g on Mutation { again: pauseMigration(input: { idempotencyKey: "again", migrationId: $m }) { __typename } }`,
    { m: m1 },
    [
      { mutation: 'pauseMigration', subjectId: m1, idempotencyKey: null, input: { migrationId: m1 } },
      { mutation: 'pauseMigration', subjectId: m1, idempotencyKey: 'again', input: { idempotencyKey: 'again', migrationId: m1 } },
      { mutation: 'setWebhookSecret', subjectId: null, input: { idempotencyKey: 'k', secret: '[withheld]' } },
    ],
  ],
  [
    'a member that the input does not have',
    'mutation ($input: ConnectCloudInput!) { connectCloud(input: $input) { __typename } }',
    { input: { idempotencyKey: 'k', name: { a: 'hunter2' }, option: { secretAccessKey: 'hunter2' } } },
    [{ mutation: 'connectCloud', input: { idempotencyKey: 'k', name: '[withheld]', option: '[withheld]' } }],
  ],
  [
    'an input as a text',
    'mutation ($input: ConnectCloudInput!) { connectCloud(input: $input) { __typename } }',
    { input: '{"options":{"secretAccessKey":"hunter2"}}' },
    [{ mutation: 'connectCloud', input: '[withheld]' }],
  ],
]
test.for(refusedWhole)(
  'what is refused before its fields run is known by them, without its credentials: %s',
  async ([, document, variables, entries]) => {
    const before = (await read()).totalCount
    await api.post(tokens['OPERATOR']!, document, variables)
    const { totalCount, nodes } = await read({ first: entries.length })
    expect(totalCount).toBe(before + entries.length)
    for (const [place, entry] of entries.entries()) {
      expect(nodes[place]).toMatchObject({ outcome: 'REFUSED', ...entry })
      expect(nodes[place]?.input).toEqual((entry as Entry).input)
    }
    expect(JSON.stringify(nodes)).not.toContain('hunter2')
  },
)

test('credentials of a cloud do not reach the trail', async () => {
  const options = { host: 'cloud.example', nested: { apiKey: 'hunter2' } }
  const connect = 'mutation ($input: ConnectCloudInput!) { connectCloud(input: $input) { __typename } }'
  await api.run(tokens['ADMIN']!, connect, { input: { idempotencyKey: 'c', name: 'north', pluginId: 'alpha', options } })
  expect(await newest()).toMatchObject({ outcome: 'DONE', input: { name: 'north', pluginId: 'alpha', options: '[withheld]' } })
})

test('an input that is too long is not kept for ever', async () => {
  await pause('VIEWER', { idempotencyKey: 'x'.repeat(100_000), migrationId: m1 })
  expect((await newest())?.input).toMatchObject({ tooLong: expect.stringMatching(/^\d{6} characters$/) as string })
})

test.for(['\ud800', `${'x'.repeat(199)}😀😀`, 'a\0b'])(
  'the key %j, which no text in the database can be, leaves the trail sound',
  async (key) => {
    await pause('VIEWER', { idempotencyKey: key, migrationId: m1 })
    expect(await newest()).toMatchObject({ errorCode: 'FORBIDDEN', input: { idempotencyKey: key } })
    expect((await api.verifyAuditTrail()).broken).toBeNull()
  },
)

test.for(['\ud800', 'a\0b'])('the key %j is refused', async (key) => {
  await pause('OPERATOR', { idempotencyKey: key, migrationId: m1 })
  expect(await newest()).toMatchObject({ outcome: 'REFUSED', errorCode: 'INVALID_INPUT', role: 'OPERATOR' })
})

test('an id with a NUL in it leaves the trail sound', async () => {
  await pause('VIEWER', { idempotencyKey: 'k', migrationId: Buffer.from('Migration:a\0b').toString('base64') })
  expect(await newest()).toMatchObject({ errorCode: 'FORBIDDEN', subjectId: expect.any(String) as string })
  expect((await api.verifyAuditTrail()).broken).toBeNull()
})

test('filters, order and pages', async () => {
  const all = await read({ first: 100 })
  expect(all.totalCount).toBe(all.nodes.length)
  const oldest = await read({ orderBy: 'OLDEST_FIRST', first: 100 })
  expect(oldest.nodes).toEqual(all.nodes.toReversed())
  expect(oldest.nodes.map(({ sequence }) => sequence)).toEqual(oldest.nodes.map((_, index) => index + 1))
  const only = async (filter: object, holds: (entry: Entry) => boolean) =>
    expect(await read({ filter, first: 100 })).toMatchObject({ nodes: all.nodes.filter(holds) })
  await only({ outcomes: ['FAILED'] }, ({ outcome }) => outcome === 'FAILED')
  await only({ mutations: ['connectCloud'] }, ({ mutation }) => mutation === 'connectCloud')
  await only({ subjectId: m1 }, ({ subjectId }) => subjectId === m1)
  await only({ since: '2999-01-01T00:00:00.000Z' }, () => false)
  await only({ before: '2999-01-01T00:00:00.000Z' }, () => true)
})
