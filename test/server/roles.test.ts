import SchemaBuilder from '@pothos/core'
import { isInputObjectType, isObjectType, getNamedType } from 'graphql'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fieldRules } from '../../schema/field-rules.ts'
import { schema } from '../../schema/index.ts'
import { migrationTests } from '../../src/database/tables/migration-test.ts'
import { isSecretName } from '../../src/secrets/withhold-secrets.ts'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { sampleOperation } from './sample-operation.ts'
import { idOf, seed } from './seed.ts'

const roles = ['VIEWER', 'OPERATOR', 'ADMIN'] as const
const rootFields = (['query', 'mutation', 'subscription'] as const).flatMap((kind) =>
  Object.values(schema.getRootType(kind)!.getFields()).map((field) => ({ kind, field, role: String(field.extensions['role']) })),
)
const fieldsWithRole = Object.values(schema.getTypeMap())
  .filter(isObjectType)
  .flatMap((type) => Object.values(type.getFields()).map((field) => ({ name: `${type.name}.${field.name}`, field })))
  .filter(({ field }) => field.extensions['role'] !== undefined)

let api: ApiUnderTest
const tokens: Record<string, string> = {}
beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  for (const role of roles) tokens[role] = await api.tokenOf(role)
})
afterAll(() => api.stop())

test('a field that declares no role, or two, or one that is none, does not build', () => {
  const build = (options: object) => {
    const builder = new SchemaBuilder<{ Context: object }>({ plugins: [fieldRules] } as never)
    builder.queryType({ fields: (t) => ({ secret: t.string({ resolve: () => '', ...options }) }) })
    return () => builder.toSchema()
  }
  expect(build({})).toThrow(/Query\.secret does not say who may use it/)
  expect(build({ authScopes: { viewer: true, admin: true } })).toThrow(/Query\.secret/)
  expect(build({ authScopes: { viewer: false } })).toThrow(/Query\.secret/)
  expect(build({ authScopes: { visitor: true } })).toThrow(/Query\.secret/)
  expect(build({ authScopes: { admin: true } })).not.toThrow()
})

test('who may use a field is said at the end of its description, and so in the committed schema', () => {
  const ending = { VIEWER: /./, OPERATOR: /For operators\.$/, ADMIN: /For admins\.$/ }
  const wanting = fieldsWithRole.filter(
    ({ field }) => !ending[field.extensions['role'] as keyof typeof ending].test(field.description ?? ''),
  )
  expect(wanting.map(({ name }) => name)).toEqual([])
  expect(fieldsWithRole.map(({ name }) => name)).toEqual(expect.arrayContaining(['Query.auditEntries', 'MigrationTest.console']))
  const misleading = rootFields.filter(({ field, role }) => role === 'VIEWER' && /For (operators|admins)\.$/.test(field.description ?? ''))
  expect(misleading.map(({ field }) => field.name)).toEqual([])
})

test('no mutation is for viewers, and credentials, tokens and the audit trail are for admins', () => {
  expect(rootFields.filter(({ kind, role }) => kind === 'mutation' && role === 'VIEWER').map(({ field }) => field.name)).toEqual([])
  const admins = rootFields.filter(({ role }) => role === 'ADMIN').map(({ field }) => field.name)
  expect(admins).toEqual(
    expect.arrayContaining(['connectCloud', 'disconnectCloud', 'createApiToken', 'revokeApiToken', 'apiTokens', 'auditEntries']),
  )
})

const matrix = rootFields.flatMap(({ kind, field, role }) =>
  roles.map((by) => ({ kind, field, name: field.name, by, allowed: roles.indexOf(by) >= roles.indexOf(role as (typeof roles)[number]) })),
)
test.for(matrix)('$kind $name by a token with the role $by: allowed $allowed', async ({ kind, field, by, allowed }) => {
  api.called.length = 0
  const { query, variables } = sampleOperation(kind, field)
  const leaving = new AbortController()
  const answer = await fetch(api.url, {
    method: 'POST',
    signal: leaving.signal,
    headers: {
      'content-type': 'application/json',
      accept: kind === 'subscription' ? 'text/event-stream' : 'application/json',
      authorization: `Bearer ${tokens[by]}`,
    },
    body: JSON.stringify({ query, variables }),
  })
  const said = await firstPart(answer)
  leaving.abort()
  expect(said).not.toContain('GRAPHQL_VALIDATION_FAILED')
  expect(said.includes('"FORBIDDEN"')).toBe(!allowed)
  if (allowed) return
  expect(said).toContain(`a token with the role ${by}`.replace('a token', 'A token'))
  expect(api.called).toEqual([])
})

/** All of an answer, or the first event of a stream. */
async function firstPart(answer: Response): Promise<string> {
  let text = ''
  for await (const chunk of answer.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk
    if (text.includes('"data":{') || text.includes('"errors":')) break
  }
  return text
}

test('an object that is for admins is refused to others also by its id', async () => {
  const token = await api.tokenOf('ADMIN')
  const { data } = await api.run<{ apiTokens: { id: string }[] }>(token, '{ apiTokens { id } }')
  const id = data.apiTokens[0]!.id
  const query = 'query ($id: ID!) { node(id: $id) { __typename ... on ApiToken { name } } }'
  expect((await api.run(token, query, { id })).errors).toBeUndefined()
  for (const role of ['VIEWER', 'OPERATOR'])
    expect(await api.run(tokens[role]!, query, { id })).toMatchObject({ errors: [{ extensions: { code: 'FORBIDDEN' } }] })
  const entry = { id: idOf('AuditEntry', 'any') }
  expect((await api.run(tokens['OPERATOR']!, 'query ($id: ID!) { node(id: $id) { id } }', entry)).data).toMatchObject({ node: null })
})

test("a guest's console is refused to viewers, and the rest of the test boot is not", async () => {
  await api.db.write((orm) => [
    orm
      .insert(migrationTests)
      .values({ id: 't1', migrationId: 'm1', attempt: 1, state: 'PASSED', console: 'root password: x', requestedAt: new Date() }),
  ])
  const query = 'query ($id: ID!) { node(id: $id) { ... on MigrationTest { state console } } }'
  const id = { id: idOf('MigrationTest', 't1') }
  expect(await api.run(tokens['VIEWER']!, query, id)).toMatchObject({
    data: { node: { state: 'PASSED', console: null } },
    errors: [{ extensions: { code: 'FORBIDDEN' } }],
  })
  expect((await api.run(tokens['OPERATOR']!, query, id)).data).toEqual({ node: { state: 'PASSED', console: 'root password: x' } })
})

test('whatever takes free-form JSON, or is called a secret, is withheld from the audit trail', () => {
  const inputs = Object.values(schema.getTypeMap()).filter(isInputObjectType)
  const wanting = inputs.flatMap((type) =>
    Object.values(type.getFields())
      .filter((field) => getNamedType(field.type).name === 'JSON' || /(secret|password|passphrase|credentials?|key)s?$/i.test(field.name))
      .filter((field) => field.name !== 'idempotencyKey' && !isSecretName(field.name) && !isInputObjectType(getNamedType(field.type)))
      .map((field) => `${type.name}.${field.name}`),
  )
  expect(wanting).toEqual([])
})

test('no object shows a hash, a key or sealed options', () => {
  const names = Object.values(schema.getTypeMap())
    .filter((type) => isObjectType(type) && !type.name.startsWith('__'))
    .flatMap((type) => (isObjectType(type) ? Object.keys(type.getFields()).map((field) => `${type.name}.${field}`) : []))
  expect(names.filter((name) => /sealed|privateKey|password|\.options$|Token\.hash/i.test(name))).toEqual([])
})
