import { eq } from 'drizzle-orm'
import { createClient, type Client } from 'graphql-ws'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { clouds } from '../../src/database/tables/cloud.ts'
import { migrationEvents, migrations } from '../../src/database/tables/migration.ts'
import { limits } from '../../schema/limits.ts'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { event, idOf, seed } from './seed.ts'

interface Subscriber {
  events: { data?: Record<string, unknown>; errors?: { extensions: Record<string, unknown> }[] }[]
  completed: boolean
  leave: () => Promise<void>
}
type Subscribe = (api: ApiUnderTest, token: string, query: string, variables?: Record<string, unknown>) => Promise<Subscriber>

const m1 = { migrationId: idOf('Migration', 'm1') }
const progress =
  'subscription Progress($migrationId: ID!) { migrationProgress(migrationId: $migrationId) { id state bytesSent source { name } } }'
const events =
  'subscription Events($migrationId: ID!, $after: Int) { migrationEvents(migrationId: $migrationId, afterSequence: $after) { sequence message } }'

let api: ApiUnderTest
let viewer: string
const leaving: (() => Promise<void>)[] = []

beforeEach(async () => {
  api = await startApi()
  await seed(api.db)
  viewer = await api.tokenOf('VIEWER')
})
afterEach(async () => {
  for (const leave of leaving.splice(0)) await leave()
  await api.stop()
})

const overSse: Subscribe = async (at, token, query, variables) => {
  const gone = new AbortController()
  const subscriber: Subscriber = { events: [], completed: false, leave: async () => gone.abort() }
  const response = await fetch(at.url, {
    method: 'POST',
    signal: gone.signal,
    headers: { 'content-type': 'application/json', accept: 'text/event-stream', authorization: `Bearer ${token}` },
    body: JSON.stringify({ query, variables }),
  })
  const read = async () => {
    let buffered = ''
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      const messages = (buffered + chunk).split('\n\n')
      buffered = messages.pop()!
      for (const message of messages) {
        if (message.startsWith('event: complete')) subscriber.completed = true
        if (message.startsWith('event: next')) subscriber.events.push(JSON.parse(message.slice(message.indexOf('data: ') + 6)) as never)
      }
    }
  }
  read().catch(() => {}) // a stream that is cut off ends; what came before is what counts
  leaving.push(subscriber.leave)
  return subscriber
}

const overWebSocket: Subscribe = async (at, token, query, variables = {}) => {
  const client: Client = createClient({
    url: at.url.replace('http', 'ws'),
    connectionParams: { Authorization: `Bearer ${token}` },
    retryAttempts: 0,
  })
  const subscriber: Subscriber = { events: [], completed: false, leave: async () => client.dispose() }
  client.subscribe(
    { query, variables },
    {
      next: (result) => void subscriber.events.push(result as never),
      error: (errors) => void subscriber.events.push({ errors: errors as never }),
      complete: () => void (subscriber.completed = true),
    },
  )
  leaving.push(subscriber.leave)
  return subscriber
}

const sent = async (bytesSent: number) =>
  api.db.write((orm) => [orm.update(migrations).set({ bytesSent }).where(eq(migrations.id, 'm1'))], [{ topic: 'MIGRATION', subject: 'm1' }])
const happened = async (sequence: number) =>
  api.db.write((orm) => [orm.insert(migrationEvents).values(event('m1', sequence))], [{ topic: 'MIGRATION_EVENT', subject: 'm1' }])
const ended = async () =>
  api.db.write(
    (orm) => [orm.update(migrations).set({ state: 'COMPLETED', endedAt: new Date() }).where(eq(migrations.id, 'm1'))],
    [{ topic: 'MIGRATION', subject: 'm1' }],
  )
const last = (subscriber: Subscriber) => subscriber.events.at(-1)?.data
const sequences = (subscriber: Subscriber) =>
  subscriber.events.map(({ data }) => (data as { migrationEvents: { sequence: number } }).migrationEvents.sequence)

const transports: [string, Subscribe][] = [
  ['server-sent events', overSse],
  ['graphql-ws', overWebSocket],
]

test.for(transports)('over %s: the present state first, then whole objects, then the end', async ([, subscribe]) => {
  await sent(10)
  const watcher = await subscribe(api, viewer, progress, m1)
  await vi.waitFor(() => expect(watcher.events).toHaveLength(1))
  const whole = { id: m1.migrationId, state: 'RUNNING', source: { name: 'vm-001' } }
  expect(last(watcher)).toEqual({ migrationProgress: { ...whole, bytesSent: 10 } })
  await sent(20)
  await vi.waitFor(() => expect(last(watcher)).toEqual({ migrationProgress: { ...whole, bytesSent: 20 } }))

  const late = await subscribe(api, viewer, progress, m1)
  await vi.waitFor(() => expect(last(late)).toEqual({ migrationProgress: { ...whole, bytesSent: 20 } }))
  await ended()
  await vi.waitFor(() => expect([watcher.completed, late.completed]).toEqual([true, true]))
  expect(last(watcher)).toEqual({ migrationProgress: { ...whole, state: 'COMPLETED', bytesSent: 20 } })
})

test.for(transports)('over %s: a subscriber of a second control plane on the same database sees the same', async ([, subscribe]) => {
  const second = await api.another()
  const watcher = await subscribe(second, viewer, progress, m1)
  await vi.waitFor(() => expect(watcher.events).toHaveLength(1))
  await sent(4711)
  await vi.waitFor(() => expect(last(watcher)).toMatchObject({ migrationProgress: { bytesSent: 4711 } }))
})

test.for(transports)('over %s: each event of a migration comes once and in order, to who comes late or back too', async ([, subscribe]) => {
  const watcher = await subscribe(api, viewer, events, m1)
  await vi.waitFor(() => expect(sequences(watcher)).toEqual([1, 2]))
  for (const sequence of [3, 4, 5]) await happened(sequence)
  await vi.waitFor(() => expect(sequences(watcher)).toEqual([1, 2, 3, 4, 5]))
  const back = await subscribe(api, viewer, events, { ...m1, after: 3 })
  await vi.waitFor(() => expect(sequences(back)).toEqual([4, 5]))
  await happened(6)
  await ended()
  await vi.waitFor(() => expect([watcher.completed, back.completed]).toEqual([true, true]))
  expect(sequences(watcher)).toEqual([1, 2, 3, 4, 5, 6])
})

test('a long history of events comes whole', async () => {
  const many = Array.from({ length: 250 }, (_, index) => event('m1', index + 3))
  await api.db.write((orm) => [orm.insert(migrationEvents).values(many)])
  const watcher = await overSse(api, viewer, events, m1)
  await vi.waitFor(() => expect(sequences(watcher)).toHaveLength(252))
  expect(sequences(watcher)).toEqual(Array.from({ length: 252 }, (_, index) => index + 1))
})

test.for(transports)('over %s: the topology comes whole, again when a cloud changes, for one cloud or all', async ([, subscribe]) => {
  const all = await subscribe(api, viewer, 'subscription { topologyChanges { clouds { name state } } }')
  const one = await subscribe(api, viewer, 'subscription ($id: ID!) { topologyChanges(cloudId: $id) { clouds { name state } } }', {
    id: idOf('Cloud', 'west'),
  })
  const state = (east: string) => ({ topologyChanges: { clouds: [{ name: 'east', state: east }, { name: 'west', state: 'CONNECTED' }] } }) // prettier-ignore
  await vi.waitFor(() => expect(last(all)).toEqual(state('CONNECTED')))
  await vi.waitFor(() => expect(last(one)).toEqual({ topologyChanges: { clouds: [{ name: 'west', state: 'CONNECTED' }] } }))
  await api.db.write(
    (orm) => [orm.update(clouds).set({ state: 'UNREACHABLE' }).where(eq(clouds.id, 'east'))],
    [{ topic: 'CLOUD', subject: 'east' }],
  )
  await vi.waitFor(() => expect(last(all)).toEqual(state('UNREACHABLE')))
  expect(one.events).toHaveLength(1)
})

test.for(transports)('over %s: an unknown migration is an error with a code', async ([, subscribe]) => {
  const watcher = await subscribe(api, viewer, progress, { migrationId: idOf('Migration', 'gone') })
  await vi.waitFor(() => expect(watcher.events[0]?.errors?.[0]?.extensions).toMatchObject({ code: 'NOT_FOUND', path: ['migrationId'] }))
})

test('queries and mutations pass over graphql-ws with the limits and roles of HTTP', async () => {
  const query = await overWebSocket(api, viewer, '{ viewer { role } }')
  await vi.waitFor(() => expect(query).toMatchObject({ events: [{ data: { viewer: { role: 'VIEWER' } } }], completed: true }))
  const refused = await overWebSocket(
    api,
    viewer,
    'mutation { refreshTopology(input: { idempotencyKey: "k", cloudId: "c" }) { __typename } }',
  )
  await vi.waitFor(() => expect(refused.events[0]?.errors?.[0]?.extensions).toMatchObject({ code: 'FORBIDDEN' }))
  const tooLong = await overWebSocket(api, viewer, `{ viewer { ${'role '.repeat(2000)} } }`)
  await vi.waitFor(() => expect(tooLong.events[0]?.errors?.[0]?.extensions).toMatchObject({ code: 'QUERY_TOO_LONG' }))
})

/** The code that a WebSocket is closed with. */
const closing = (url: string, first: string | null, headers: Record<string, string> = {}) =>
  new Promise<number>((closed) => {
    const socket = new WebSocket(url, { protocols: 'graphql-transport-ws', headers } as never)
    socket.addEventListener('open', () => first !== null && socket.send(first))
    socket.addEventListener('close', ({ code }) => closed(code))
    socket.addEventListener('message', () => socket.close(4999))
  })

test('a WebSocket without a token, or with a wrong one, is closed; the header of the upgrade serves as well', async () => {
  const url = api.url.replace('http', 'ws')
  expect(await closing(url, '{"type":"connection_init"}')).toBe(4403)
  expect(await closing(url, '{"type":"connection_init","payload":{"Authorization":"Bearer wrong"}}')).toBe(4403)
  expect(await closing(url, `{"type":"subscribe","id":"1","payload":{"query":"{ viewer { role } }"}}`)).toBe(4401)
  expect(await closing(url, '{"type":"connection_init"}', { authorization: `Bearer ${viewer}` })).toBe(4999)
  expect(await closing(url, `{"type":"connection_init","payload":{"x":"${'x'.repeat(limits.bodyBytes)}"}}`)).toBe(1009)
  expect(await closing(`${url}/elsewhere`, null)).toBe(1006)
})

test('who leaves is forgotten: the gauge of open subscriptions falls to 0', async () => {
  const gauge = async () => {
    const text = await (await fetch(new URL('/metrics', api.url), { headers: { authorization: `Bearer ${viewer}` } })).text()
    return Number(/portolan_graphql_subscriptions\{operation="Progress"\} (\d+)/.exec(text)?.[1])
  }
  const watchers = [await overSse(api, viewer, progress, m1), await overWebSocket(api, viewer, progress, m1)]
  await vi.waitFor(async () => expect(await gauge()).toBe(2))
  for (const watcher of watchers) await watcher.leave()
  await vi.waitFor(async () => expect(await gauge()).toBe(0))
})

test('a stop breaks subscriptions off without a completion, so that clients redial', async () => {
  const second = await api.another()
  const sse = await overSse(second, viewer, progress, m1)
  const closed = new Promise<number>((done) => {
    const client = createClient({
      url: second.url.replace('http', 'ws'),
      connectionParams: { Authorization: `Bearer ${viewer}` },
      lazy: false,
      retryAttempts: 0,
      onNonLazyError: () => {},
      on: { closed: (event) => done((event as CloseEvent).code), connected: () => void second.stop() },
    })
    leaving.push(async () => client.dispose())
  })
  expect(await closed).toBe(1001)
  expect(sse.completed).toBe(false)
  await expect(fetch(second.url)).rejects.toThrow()
})
