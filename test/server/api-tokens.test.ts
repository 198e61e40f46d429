import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { createClient } from 'graphql-ws'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { WebSocket } from 'ws'
import { apiTokens } from '../../src/database/tables/api-token.ts'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { idOf, seed } from './seed.ts'

let api: ApiUnderTest
let admin: string
beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  admin = await api.tokenOf('ADMIN')
})
afterAll(() => api.stop())

interface Made {
  createApiToken: { token: string | null; apiToken: { id: string; name: string; role: string; revokedAt: string | null } }
}
const create = `mutation ($input: CreateApiTokenInput!) { createApiToken(input: $input) {
  ... on CreateApiTokenSuccess { token apiToken { id name role revokedAt } } ... on Error { code message path }
} }`
const revoke = `mutation ($input: RevokeApiTokenInput!) { revokeApiToken(input: $input) {
  ... on RevokeApiTokenSuccess { apiToken { id revokedAt } } ... on Error { code message path }
} }`
let keys = 0
const make = async (role: string, idempotencyKey = `make-${++keys}`) =>
  (await api.run<Made>(admin, create, { input: { idempotencyKey, name: `for ${role}`, role } })).data.createApiToken
const end = (apiTokenId: string, by = admin) => api.run(by, revoke, { input: { idempotencyKey: `end-${++keys}`, apiTokenId } })

test('a token is shown once, works as its role says, and is stored nowhere', async () => {
  const made = await make('OPERATOR', 'once')
  expect(made).toMatchObject({
    token: expect.stringMatching(/^portolan_.{43}$/) as string,
    apiToken: { name: 'for OPERATOR', revokedAt: null },
  })
  expect((await api.run<{ viewer: object }>(made.token!, '{ viewer { role tokenName } }')).data.viewer).toEqual({
    role: 'OPERATOR',
    tokenName: 'for OPERATOR',
  })
  expect(await make('OPERATOR', 'once')).toEqual({ ...made, token: null })
  const listed = await api.run(admin, '{ apiTokens { id name role createdAt revokedAt } auditEntries { nodes { input hash } } }')
  expect(JSON.stringify([listed, await api.db.select().from(apiTokens)])).not.toContain(made.token)
})

test('a revoked token is refused at once, also by another control plane on the database, and stays on the list', async () => {
  const { token, apiToken } = await make('VIEWER')
  const other = await api.another()
  expect((await other.post(token, '{ viewer { role } }')).status).toBe(200)
  expect((await end(apiToken.id)).data).toMatchObject({
    revokeApiToken: { apiToken: { id: apiToken.id, revokedAt: expect.any(String) as string } },
  })
  for (const at of [api, other]) expect((await at.post(token, '{ viewer { role } }')).status).toBe(401)
})

test.for(['this', 'another'])(
  'a running subscription over server-sent events is cut when its token is revoked at %s control plane',
  async (where) => {
    const { token, apiToken } = await make('VIEWER')
    const at = where === 'this' ? api : await api.another()
    const answer = await fetch(at.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'text/event-stream', authorization: `Bearer ${token}` },
      body: JSON.stringify({ query: 'subscription { topologyChanges { readAt } }' }),
    })
    const reader = answer.body!.getReader()
    expect((await reader.read()).done).toBe(false)
    await end(apiToken.id)
    const cut = async () => {
      while (!(await reader.read()).done);
    }
    await expect(cut()).rejects.toThrow(/terminated/)
  },
)

const refresh = `mutation { refreshTopology(input: { idempotencyKey: "k", cloudId: "${idOf('Cloud', 'east')}" }) { __typename } }`
const subscription = 'subscription { topologyChanges { readAt } }'
/** The bytes of a POST. */
const posted = (token: string | null, query: string, accept = 'application/json') => {
  const body = JSON.stringify({ query })
  return `POST /graphql HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nAccept: ${accept}\r\nContent-Length: ${body.length}\r\n\r\n${body}`
}
const heldBack: [what: string, before: string, query: string, accept?: string][] = [
  ['a mutation', '', refresh],
  ['a mutation behind one that is under way on its connection', refresh, refresh],
  ['a subscription', '', subscription, 'text/event-stream'],
]
test.for(heldBack)('%s whose last byte comes after its token was revoked is not carried out', async ([, before, query, accept]) => {
  const { token, apiToken } = await make('OPERATOR')
  const called = () => api.called.filter(([name]) => name === 'refreshTopology').length
  const calledBefore = called()
  let release = () => {}
  api.behave({ refreshTopology: (_, { cloudId }) => new Promise((done) => (release = () => done({ cloudId }))) })
  const socket = connect({ port: Number(new URL(api.url).port), host: '127.0.0.1' }).on('error', () => {})
  const closed = once(socket, 'close')
  let heard = ''
  socket.setEncoding('utf8').on('data', (text: string) => (heard += text))
  const bytes = posted(token, query, accept)
  socket.write((before && posted(token, before)) + bytes.slice(0, -1))
  await vi.waitFor(() => expect(called()).toBe(calledBefore + (before ? 1 : 0)))
  await delay(100)
  await end(apiToken.id)
  await delay(100)
  socket.write(bytes.slice(-1))
  try {
    await Promise.race([closed, delay(5_000).then(() => Promise.reject(new Error(`It is open, and said: ${heard}`)))])
  } finally {
    release()
    socket.destroy()
    api.behave({})
  }
  expect(heard).toBe('')
  expect(called()).toBe(calledBefore + (before ? 1 : 0))
  expect(api.logged.filter(([level]) => level === 'error')).toEqual([])
})

test('a mutation that is under way when its token is revoked is answered', async () => {
  const { token, apiToken } = await make('OPERATOR')
  const { promise, resolve } = Promise.withResolvers<{ cloudId: string }>()
  const started = Promise.withResolvers<void>()
  api.behave({ refreshTopology: () => (started.resolve(), promise) })
  const answer = api.run(token!, refresh)
  await started.promise
  await end(apiToken.id)
  await delay(250)
  resolve({ cloudId: 'east' })
  expect(await answer).toEqual({ data: { refreshTopology: { __typename: 'RefreshTopologySuccess' } } })
  api.behave({})
})

test('a WebSocket is closed when its token is revoked, and others stay open', async () => {
  const [{ token, apiToken }, kept] = [await make('VIEWER'), await make('VIEWER')]
  const watch = (bearer: string) => {
    const closed = Promise.withResolvers<{ code: number }>()
    const opened = Promise.withResolvers<void>()
    const client = createClient({
      url: api.url.replace('http', 'ws'),
      webSocketImpl: WebSocket,
      retryAttempts: 0,
      connectionParams: { Authorization: `Bearer ${bearer}` },
      on: { closed: (event) => closed.resolve(event as { code: number }) },
    })
    client.subscribe(
      { query: 'subscription { topologyChanges { readAt } }' },
      { next: () => opened.resolve(), error: () => {}, complete: () => {} },
    )
    return { client, closed: closed.promise, opened: opened.promise }
  }
  const [cut, other] = [watch(token!), watch(kept.token!)]
  await Promise.all([cut.opened, other.opened])
  await end(apiToken.id)
  expect(await cut.closed).toMatchObject({ code: 4403 })
  expect(await Promise.race([other.closed, delay(300, 'still open')])).toBe('still open')
  await other.client.dispose()
})

test("the last admin's token is not revoked, and an unknown one or a bad name is refused", async () => {
  const { data } = await api.run<{ apiTokens: { id: string; role: string; revokedAt: string | null }[] }>(
    admin,
    '{ apiTokens { id role revokedAt } }',
  )
  const admins = data.apiTokens.filter(({ role, revokedAt }) => role === 'ADMIN' && revokedAt === null)
  expect(admins).toHaveLength(1)
  expect((await end(admins[0]!.id)).data).toMatchObject({ revokeApiToken: { code: 'CONFLICT', path: ['input', 'apiTokenId'] } })
  const second = await make('ADMIN')
  expect((await end(second.apiToken.id, second.token!)).data).toMatchObject({ revokeApiToken: { apiToken: { id: second.apiToken.id } } })
  const unknown = Buffer.from('ApiToken:nobody').toString('base64')
  expect((await end(unknown)).data).toMatchObject({ revokeApiToken: { code: 'NOT_FOUND' } })
  const input = { idempotencyKey: 'bad name', name: ' ', role: 'VIEWER' }
  expect((await api.run(admin, create, { input })).data).toMatchObject({
    createApiToken: { code: 'INVALID_INPUT', path: ['input', 'name'] },
  })
})
