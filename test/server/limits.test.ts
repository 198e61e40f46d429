import { getIntrospectionQuery } from 'graphql'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { limits } from '../../schema/limits.ts'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { idOf, seed } from './seed.ts'

let api: ApiUnderTest
let viewer: string

beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  viewer = await api.tokenOf('VIEWER')
})
afterAll(() => api.stop())

const nested = (levels: number): string => (levels === 0 ? 'id' : `cloud { virtualMachines(first: 1) { nodes { ${nested(levels - 1)} } } }`)
const deepIntrospection = (levels: number): string => (levels === 0 ? 'name' : `fields { type { ${deepIntrospection(levels - 1)} } }`)

const tooMuch: [code: string, query: string, sentence: string][] = [
  ['QUERY_TOO_DEEP', `{ virtualMachines(first: 1) { nodes { ${nested(5)} } } }`, 'nests more than 16 levels'],
  ['TOO_MANY_ALIASES', `{ ${Array.from({ length: 30 }, (_, index) => `a${index}: viewer { role }`).join(' ')} }`, 'more than 20 aliases'],
  ['QUERY_TOO_LONG', `{ viewer { ${'role '.repeat(2000)} } }`, 'more than 2000 tokens'],
  ['TOO_MANY_DIRECTIVES', `{ viewer { role ${'@include(if: true) '.repeat(21)} } }`, 'more than 20 directives'],
  [
    'QUERY_TOO_EXPENSIVE',
    '{ clouds(first: 100) { nodes { virtualMachines(first: 100) { nodes { id name disks { sizeBytes } } } } } }',
    'fields, and 20000 are allowed',
  ],
]
test.for(tooMuch)('%s is said in a sentence, and nothing is run', async ([code, query, sentence]) => {
  const { data, errors } = await api.run(viewer, query)
  expect(errors?.[0]).toMatchObject({ message: expect.stringContaining(sentence), extensions: { code } })
  expect(errors?.[0]?.message).toContain('Nothing was run')
  expect(data ?? null).toBeNull()
})

test('the cost counts the operation that runs, page sizes from variables, fragments and lists of ids', async () => {
  const cheapFirst =
    'query Cheap { viewer { role } } query Dear($first: Int) { clouds(first: $first) { nodes { ...f } } } fragment f on Cloud { virtualMachines(first: $first) { nodes { id name power cloud { id name } } } }'
  const runNamed = async (operationName: string) => {
    const answer = await fetch(api.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${viewer}` },
      body: JSON.stringify({ query: cheapFirst, operationName, variables: { first: 100 } }),
    })
    return answer.json()
  }
  expect(await runNamed('Cheap')).toEqual({ data: { viewer: { role: 'VIEWER' } } })
  expect(await runNamed('Dear')).toMatchObject({ errors: [{ extensions: { code: 'QUERY_TOO_EXPENSIVE' } }] })
  const ids = Array.from({ length: 7000 }, (_, index) => idOf('Cloud', `${index}`))
  const { errors } = await api.run(viewer, 'query ($ids: [ID!]!) { nodes(ids: $ids) { id ... on Cloud { name state } } }', { ids })
  expect(errors?.[0]?.extensions).toMatchObject({ code: 'QUERY_TOO_EXPENSIVE' })
})

test('an expensive subscription is refused before it begins', async () => {
  const stream = await api.post(
    viewer,
    'subscription { topologyChanges { clouds { virtualMachines(first: 100) { nodes { disks { id sizeBytes index bus } networkInterfaces { id index macAddress } name power present cpuCount cloud { regions { zones { name hosts { name } } } } } } } } }',
    {},
    { accept: 'text/event-stream' },
  )
  expect(await stream.text()).toContain('QUERY_TOO_EXPENSIVE')
})

test('introspection as tools send it passes; one that nests without end does not', async () => {
  const { data, errors } = await api.run<Record<string, object>>(
    viewer,
    getIntrospectionQuery({ inputValueDeprecation: true, specifiedByUrl: true, oneOf: true }),
  )
  expect(errors).toBeUndefined()
  expect(data).toHaveProperty('__schema')
  const deep = await api.run(viewer, `{ __schema { types { ${deepIntrospection(8)} } } }`)
  expect(deep.errors?.[0]?.message).toContain('Maximum introspection depth exceeded')
})

test('a body beyond the limit is refused by its length, and also where it does not tell its length', async () => {
  const body = JSON.stringify({ query: `# ${'x'.repeat(limits.bodyBytes)}\n{ viewer { role } }` })
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${viewer}` }
  const told = await fetch(api.url, { method: 'POST', headers, body })
  expect(told.status).toBe(413)
  expect(await told.text()).toContain(`${limits.bodyBytes}`)
  const untold = await fetch(api.url, { method: 'POST', headers, body: new Blob([body]).stream(), duplex: 'half' } as RequestInit)
  expect(untold.status).toBe(413)
})

test('a request that a foreign page could send is refused for want of the header against forgery', async () => {
  const headers = { authorization: `Bearer ${viewer}` }
  const url = `${api.url}?query=${encodeURIComponent('{ viewer { role } }')}`
  const bare = await fetch(url, { headers })
  expect([bare.status, await bare.json()]).toMatchObject([403, { errors: [{ message: expect.stringContaining('CSRF') }] }])
  expect((await fetch(url, { headers: { ...headers, 'x-graphql-yoga-csrf': '1' } })).status).toBe(200)
  const form = await fetch(api.url, {
    method: 'POST',
    headers: { ...headers, 'content-type': 'text/plain' },
    body: JSON.stringify({ query: '{ viewer { role } }' }),
  })
  expect(form.status).toBe(403)
  const byGet = await fetch(
    `${api.url}?query=${encodeURIComponent('mutation { refreshTopology(input: { idempotencyKey: "k", cloudId: "x" }) { __typename } }')}`,
    { headers: { ...headers, 'x-graphql-yoga-csrf': '1' } },
  )
  expect(byGet.status).toBe(405)
})

test('no other origin is allowed to read answers', async () => {
  const answer = await fetch(api.url, {
    method: 'OPTIONS',
    headers: { origin: 'https://example.org', 'access-control-request-method': 'POST' },
  })
  expect(answer.headers.get('access-control-allow-origin')).toBeNull()
})

test.for(['{', '{ nothing }', '', 'query ($a: Int!) { viewer { role } }'])(
  'the broken document %j gets a sentence with a code',
  async (query) => {
    const { errors } = await api.run(viewer, query)
    expect(errors?.[0]?.message).toEqual(expect.any(String))
    expect(api.logged.filter(([level]) => level === 'error')).toEqual([])
  },
)
