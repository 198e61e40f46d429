import { once } from 'node:events'
import { connect } from 'node:net'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { idOf, seed } from './seed.ts'

let api: ApiUnderTest
let second: ApiUnderTest

beforeEach(async () => {
  api = await startApi()
  await seed(api.db)
  second = await api.another()
})
afterEach(() => api.stop())

const refresh = `mutation { refreshTopology(input: { idempotencyKey: "k", cloudId: "${idOf('Cloud', 'east')}" }) { __typename } }`

test('at the stop streams are cut, a request under way is answered, and new ones are not taken', async () => {
  const operator = await api.tokenOf('OPERATOR')
  let release = () => {}
  second.behave({ refreshTopology: (_, { cloudId }) => new Promise((done) => (release = () => done({ cloudId }))) })
  const stream = await second.post(operator, 'subscription { topologyChanges { readAt } }', {}, { accept: 'text/event-stream' })
  let cut = false
  void stream.text().catch(() => (cut = true))
  const underWay = second.run(operator, refresh)
  await vi.waitFor(() => expect(second.called).toHaveLength(1))
  const stopped = second.stop()
  await vi.waitFor(() => expect(fetch(second.url)).rejects.toThrow())
  await vi.waitFor(() => expect(cut).toBe(true))
  release()
  expect(await underWay).toEqual({ data: { refreshTopology: { __typename: 'RefreshTopologySuccess' } } })
  await stopped
})

test('a client of another path that asks for a WebSocket and keeps its half of the connection does not keep it from stopping', async () => {
  const client = connect({ port: Number(new URL(second.url).port), host: '127.0.0.1', allowHalfOpen: true })
  client.write('GET /elsewhere HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
  const [answer] = (await once(client, 'data')) as [Buffer]
  expect(answer.toString()).toMatch(/^HTTP\/1.1 404 /)
  await second.stop()
  client.destroy()
})

test('readiness asks the rest of the control plane, and liveness does not', async () => {
  const status = async (path: string) => (await fetch(new URL(path, second.url))).status
  expect(await status('/ready')).toBe(200)
  second.setReady(false)
  expect([await status('/ready'), await status('/health')]).toEqual([503, 200])
})

test('a port that is taken is said, not hung on', async () => {
  const { createApiServer } = await import('../../src/server/create-server.ts')
  const { port } = new URL(api.url)
  await expect(
    createApiServer({
      db: api.db,
      changes: { listen: () => () => {} },
      host: '127.0.0.1',
      port: Number(port),
      log: { info() {}, warn() {}, error() {} },
    } as never),
  ).rejects.toMatchObject({ code: 'EADDRINUSE' })
})
