import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { apiTokens } from '../../src/database/tables/api-token.ts'
import { hashApiToken } from '../../src/secrets/api-token.ts'
import { ensureFirstToken } from '../../src/server/first-token.ts'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { idOf, seed } from './seed.ts'

let api: ApiUnderTest
const tokens: Record<string, string> = {}

const steer = { idempotencyKey: 'k', migrationId: idOf('Migration', 'm1') }
const ofCloud = { idempotencyKey: 'k', cloudId: idOf('Cloud', 'east') }
const request = {
  idempotencyKey: 'k',
  sourceVirtualMachineId: idOf('VirtualMachine', 'east/vm-1'),
  destinationCloudId: idOf('Cloud', 'west'),
  healthCheck: { tcp: { port: 22 } },
}
/** Each mutation with a good input, and the least role that may use it. */
const mutations: Record<string, { role: 'OPERATOR' | 'ADMIN'; input: object }> = {
  connectCloud: { role: 'ADMIN', input: { idempotencyKey: 'k', name: 'east', pluginId: 'alpha', options: {} } },
  disconnectCloud: { role: 'ADMIN', input: ofCloud },
  refreshTopology: { role: 'OPERATOR', input: ofCloud },
  validateMigration: { role: 'OPERATOR', input: request },
  startMigration: { role: 'OPERATOR', input: request },
  pauseMigration: { role: 'OPERATOR', input: steer },
  resumeMigration: { role: 'OPERATOR', input: steer },
  cutOverMigration: { role: 'OPERATOR', input: steer },
  cancelMigration: { role: 'OPERATOR', input: steer },
}
const pascal = (name: string) => `${name[0]!.toUpperCase()}${name.slice(1)}`
const document = (name: string) =>
  `mutation ($input: ${pascal(name)}Input!) { ${name}(input: $input) { is: __typename ... on Error { code message } } }`

beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  for (const role of ['VIEWER', 'OPERATOR', 'ADMIN'] as const) tokens[role] = await api.tokenOf(role)
})
afterAll(() => api.stop())

test('the matrix names every mutation that there is', async () => {
  const { data } = await api.run<{ schema: { mutationType: { fields: { name: string }[] } } }>(
    tokens['VIEWER']!,
    '{ schema: __schema { mutationType { fields { name } } } }',
  )
  expect(data.schema.mutationType.fields.map((field) => field.name).toSorted()).toEqual(Object.keys(mutations).toSorted())
})

const matrix = Object.entries(mutations).flatMap(([name, { role, input }]) =>
  ['VIEWER', 'OPERATOR', 'ADMIN'].map((by) => ({ name, input, by, allowed: by === 'ADMIN' || by === role })),
)
test.for(matrix)('$name by a token with the role $by: allowed $allowed', async ({ name, input, by, allowed }) => {
  api.called.length = 0
  const { data, errors } = await api.run<Record<string, { is: string }>>(tokens[by]!, document(name), { input })
  if (allowed) {
    expect(errors).toBeUndefined()
    expect(data[name]?.is).toBe(`${pascal(name)}Success`)
    expect(api.called.map(([operation, actor]) => [operation, actor.role])).toEqual([[name, by]])
  } else {
    expect(errors?.[0]?.extensions).toMatchObject({ code: 'FORBIDDEN' })
    expect(errors?.[0]?.message).toContain(by)
    expect(api.called).toEqual([])
  }
})

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
