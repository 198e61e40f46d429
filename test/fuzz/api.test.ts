/** What the API parses of anybody who reaches its port: requests, bodies, variables, scalars, WebSocket messages. */
import { once } from 'node:events'
import { connect } from 'node:net'
import * as fc from 'fast-check'
import { GraphQLError, isScalarType, type GraphQLObjectType } from 'graphql'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { schema } from '../../schema/index.ts'
import { createAuthenticate } from '../../src/server/authenticate.ts'
import { startApi, type ApiUnderTest } from '../server/api-under-test.ts'
import { sampleOperation } from '../server/sample-operation.ts'
import { idOf, seed } from '../server/seed.ts'
import { bytesLike, fuzz, jsonLike, jsonTextLike, parsed } from './support/fuzz.ts'

let api: ApiUnderTest
let admin: string
beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  admin = await api.tokenOf('ADMIN')
})
afterAll(() => api.stop())
beforeEach(() => void (api.logged.length = 0))

afterEach(async () => {
  expect((await api.run<{ viewer: object }>(admin, '{ viewer { role } }')).data.viewer).toEqual({ role: 'ADMIN' })
})

/** Whatever a client sends, it is not we who failed. */
function noFaultOfOurs(): void {
  expect(api.logged.filter(([level]) => level === 'error')).toEqual([])
}

describe('over HTTP', () => {
  const request = fc.constant(
    Buffer.from(
      'POST /graphql HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\nContent-Length: 30\r\nConnection: close\r\n\r\n{"query":"{ viewer { role } }"}',
    ),
  )
  const paths = fc
    .constantFrom('//', '/\\', '*', 'http://[', '/%', '/graphql?query=%', '/graphql/../x', '/graphql#', 'x:y', '')
    .chain((path) => fc.boolean().map((upgrade) => ({ path, upgrade })))
    .map(({ path, upgrade }) =>
      Buffer.from(
        `GET ${path} HTTP/1.1\r\nHost: h\r\n${upgrade ? 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n' : 'Connection: close\r\n'}\r\n`,
      ),
    )
  fuzz(
    'whatever comes to the port without a token',
    fc.oneof(bytesLike(request), bytesLike(paths), paths),
    async (bytes) => {
      const { hostname, port } = new URL(api.url)
      const socket = connect(Number(port), hostname).on('error', () => {})
      let heard = ''
      socket.setEncoding('latin1').on('data', (text: string) => (heard += text))
      socket.end(bytes)
      await new Promise((closed) => socket.once('close', closed))
      expect(heard).not.toMatch(/^HTTP\/1\.1 5/)
      noFaultOfOurs()
    },
    60,
  )

  const around = fc.tuple(
    fc.constantFrom('Bearer ', 'bEARER   ', 'Bearer', 'Bearer\t', 'Bearer\n', 'Basic ', ' Bearer ', 'x, Bearer ', ''),
    fc.constantFrom('', ' ', ' x', ',x', 'x', '\n', '\0', '\u00e9', 'TOKEN'),
  )
  const value = fc.oneof(
    around.map(([before, after]) => `${before}TOKEN${after}`),
    bytesLike(fc.constant(Buffer.from('Bearer TOKEN'))).map((bytes) => bytes.toString('latin1')),
    fc.anything(),
  )
  fuzz('of all headers only `Bearer` and a token let anybody in', value, async (given) => {
    const header = typeof given === 'string' ? given.replace('TOKEN', admin) : given
    const isOne = typeof given === 'string' && /^bearer +TOKEN$/i.test(given) && given.endsWith('TOKEN')
    const actor = await createAuthenticate(api.db)(header)
    expect(actor?.role).toBe(isOne ? 'ADMIN' : undefined)
  })

  const body = jsonTextLike({
    query: 'query Q($id: ID!) { node(id: $id) { id } }',
    variables: { id: 'x' },
    operationName: 'Q',
    extensions: {},
  })
  fuzz(
    'any body with a token',
    fc.tuple(
      body,
      fc.constantFrom(
        'application/json',
        'application/graphql',
        'text/plain',
        'multipart/form-data; boundary=x',
        'application/x-www-form-urlencoded',
        '',
      ),
    ),
    async ([bytes, type]) => {
      const answer = await fetch(api.url, {
        method: 'POST',
        headers: { authorization: `Bearer ${admin}`, 'content-type': type },
        body: new Uint8Array(bytes),
      })
      expect([200, 400, 403, 413, 415, 422]).toContain(answer.status)
      await answer.text()
      noFaultOfOurs()
    },
    120,
  )
})

describe('variables and scalars', () => {
  const roots = (['query', 'mutation'] as const).flatMap((kind) =>
    Object.values(schema.getRootType(kind)!.getFields()).map((field) => ({
      name: field.name,
      ...sampleOperation(kind, field, { full: true }),
    })),
  )
  const below = Object.entries({ Cloud: 'east', Migration: 'm1', Job: 'j1', ParentVm: 'p1', MigrationGroup: 'g1' }).flatMap(
    ([type, row]) => {
      const of = { type, id: idOf(type, row) }
      const fields = Object.values((schema.getType(type) as GraphQLObjectType).getFields())
      return fields.map((field) => ({ name: `${type}.${field.name}`, ...sampleOperation('query', field, { full: true, of }) }))
    },
  )
  for (const { name, query, variables } of [...roots, ...below]) {
    if (Object.keys(variables).length === 0) continue
    fuzz(
      `${name}: answered, or refused with a code`,
      jsonLike(variables),
      async (given) => {
        const answer = await fetch(api.url, {
          method: 'POST',
          headers: { authorization: `Bearer ${admin}`, 'content-type': 'application/json' },
          body: JSON.stringify({ query, variables: given }),
        })
        const { errors = [] } = (await answer.json()) as { errors?: { message: string; extensions?: { code?: string } }[] }
        expect(errors.map(({ extensions }) => extensions?.code)).not.toContain('INTERNAL')
        expect(errors.every(({ extensions }) => typeof extensions?.code === 'string')).toBe(true)
        noFaultOfOurs()
      },
      25,
    )
  }
  test('what of it is in the audit trail is as it was written', async () => {
    expect((await api.verifyAuditTrail()).broken).toBeNull()
  })

  const position = fc.oneof(
    fc.tuple(fc.oneof(fc.constantFrom('1e999', '-0', '9007199254740993', '"\\u0000"', '"\\ud800"'), fc.json()), fc.json()),
    fc.tuple(fc.json(), fc.constantFrom('"id"', '"\\ud800"')),
  )
  const cursor = fc.oneof(
    position.map((members) => Buffer.from(`[${members.join()}]`).toString('base64url')),
    fc.string({ unit: 'binary' }),
  )
  fuzz(
    'a cursor: leads to a page, or is refused with a code',
    fc.tuple(cursor, fc.constantFrom('after', 'before')),
    async ([given, argument]) => {
      const lists = ['clouds', 'auditEntries', 'jobs', 'migrations', 'virtualMachines', 'reconciliations', 'parentVms']
      const pages = lists.map((list) => `${list}(${argument}: $cursor) { edges { cursor } }`).join(' ')
      const nested = `node(id: "${idOf('Migration', 'm1')}") { ... on Migration { events(${argument}: $cursor) { edges { cursor } } } }`
      const { errors = [] } = await api.run(admin, `query ($cursor: String) { ${pages} ${nested} }`, { cursor: given })
      for (const { extensions } of errors) expect(extensions['code']).toBe('INVALID_INPUT')
      noFaultOfOurs()
    },
    100,
  )

  const scalars = Object.values(schema.getTypeMap()).filter(
    (type) => isScalarType(type) && !['JSON', 'String', 'ID', 'Int', 'Float', 'Boolean'].includes(type.name),
  )
  const samples = fc.constantFrom(
    '2026-11-22T14:00:00.000Z',
    '2026-11-22',
    '2026-02-30T00:00:00Z',
    '1',
    '10.0.0.1',
    '::1',
    '10.0.0.0/8',
    '::/129',
    '1.2.3.4/033',
    5,
    2 ** 60,
  )
  for (const scalar of scalars)
    fuzz(
      `${scalar.name}: refused, or the same when sent back`,
      fc.oneof(
        samples,
        fc.jsonValue(),
        fc.string(),
        fc.date().map((date) => date.toJSON()),
        fc.ipV6(),
      ),
      (given) => {
        if (!isScalarType(scalar)) return
        const value = parsed(
          () => scalar.parseValue(given),
          (error) => error instanceof GraphQLError,
        )
        if (value === undefined) return
        const sent = scalar.serialize(value)
        expect(scalar.serialize(scalar.parseValue(sent))).toEqual(sent)
        if (scalar.name !== 'DateTime') expect(sent).toEqual(given)
        else expect(given).toMatch(/^\d{4}-\d\d-\d\dT.*(Z|[+-]\d\d:\d\d)$/)
      },
    )
})

describe('over WebSockets', () => {
  const init = Buffer.from(JSON.stringify({ type: 'connection_init', payload: {} }))
  const message = fc.oneof(
    jsonTextLike({ type: 'connection_init', payload: { Authorization: 'Bearer x' } }),
    jsonTextLike({
      id: '1',
      type: 'subscribe',
      payload: { query: 'subscription { topologyChanges { readAt } }', variables: {}, operationName: null },
    }),
    jsonTextLike({ id: '1', type: 'complete' }),
    jsonTextLike({ type: 'ping' }),
  )
  fuzz(
    'whatever is said, with a token and without',
    fc.tuple(fc.array(message, { maxLength: 4 }), fc.boolean(), fc.boolean()),
    async ([messages, binary, known]) => {
      const headers = known ? { authorization: `Bearer ${admin}` } : {}
      const socket = new WebSocket(api.url.replace('http', 'ws'), 'graphql-transport-ws', { headers })
      socket.on('error', () => {})
      await once(socket, 'open')
      if (known) socket.send(init)
      for (const bytes of messages) if (socket.readyState === WebSocket.OPEN) socket.send(bytes, { binary })
      setTimeout(() => socket.close(), 5)
      await new Promise((closed) => socket.once('close', closed))
      noFaultOfOurs()
    },
    60,
  )
})
