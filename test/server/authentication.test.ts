import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { apiTokens } from '../../src/database/tables/api-token.ts'
import { hashApiToken } from '../../src/secrets/api-token.ts'
import { ensureFirstToken } from '../../src/server/first-token.ts'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { seed } from './seed.ts'

let api: ApiUnderTest
const tokens: Record<string, string> = {}

beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  for (const role of ['VIEWER', 'OPERATOR', 'ADMIN'] as const) tokens[role] = await api.tokenOf(role)
})
afterAll(() => api.stop())

test.for([
  ['no token', null],
  ['a wrong token', 'portolan_wrong'],
  ['an overlong token', 'x'.repeat(5000)],
] as const)('%s gets nothing, introspection included', async ([, token]) => {
  for (const query of ['{ viewer { role } }', '{ __schema { types { name } } }', 'not graphql']) {
    const answer = await api.post(token, query)
    expect(answer.status).toBe(401)
    expect(answer.headers.get('www-authenticate')).toBe('Bearer')
    expect(await answer.json()).toMatchObject({ errors: [{ extensions: { code: 'UNAUTHENTICATED' } }] })
  }
})

test('a query by GET wants a token too, and one that accepts HTML gets the page and no data', async () => {
  const url = `${api.url}?query=${encodeURIComponent('{ viewer { role } }')}`
  expect((await fetch(url, { headers: { accept: 'application/json' } })).status).toBe(401)
  const page = await fetch(url, { headers: { accept: 'text/html' } })
  expect(page.headers.get('content-type')).toContain('text/html')
  expect(page.headers.get('content-security-policy')).toContain("connect-src 'self'")
})

test('health and readiness answer anyone; metrics and all other paths do not', async () => {
  const get = (path: string, token?: string) =>
    fetch(new URL(path, api.url), { headers: token ? { authorization: `Bearer ${token}` } : {} }).then(async (answer) => [
      answer.status,
      await answer.text(),
    ])
  expect(await get('/health')).toEqual([200, 'ok\n'])
  expect(await get('/ready')).toEqual([200, 'ready\n'])
  expect((await get('/metrics'))[0]).toBe(401)
  expect((await get('/nothing-here'))[0]).toBe(401)
  expect((await get('/nothing-here', tokens['VIEWER']))[0]).toBe(404)
  await api.run(tokens['VIEWER']!, 'query NamedForMetrics { viewer { role } }')
  const [status, text] = await get('/metrics', tokens['VIEWER'])
  expect(status).toBe(200)
  expect(text).toContain('portolan_graphql_operation_seconds_count{operation="NamedForMetrics",type="query",outcome="ok"} 1')
})

test('a deleted token ends at once', async () => {
  const token = await api.tokenOf('VIEWER')
  expect((await api.post(token, '{ viewer { role } }')).status).toBe(200)
  await api.db.write((orm) => [orm.delete(apiTokens).where(eq(apiTokens.hash, hashApiToken(token)))])
  expect((await api.post(token, '{ viewer { role } }')).status).toBe(401)
})

test('the first start makes an admin token once, and stores its hash alone', async () => {
  const fresh = await startApi()
  const made = await Promise.all([ensureFirstToken(fresh.db, fresh.audit), ensureFirstToken(fresh.db, fresh.audit)])
  const token = made.find((value) => value !== null)!
  expect(made.filter((value) => value !== null)).toHaveLength(1)
  expect(await ensureFirstToken(fresh.db, fresh.audit)).toBeNull()
  expect(JSON.stringify(await fresh.db.select().from(apiTokens))).not.toContain(token)
  expect((await fresh.run<{ viewer: { role: string } }>(token, '{ viewer { role } }')).data.viewer.role).toBe('ADMIN')
  await fresh.stop()
})
