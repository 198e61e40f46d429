import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { errorCodes, PortolanError } from '../../src/domain/errors.ts'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { idOf, seed } from './seed.ts'

let api: ApiUnderTest
let admin: string

const start = `mutation ($input: StartMigrationInput!) { startMigration(input: $input) {
  is: __typename
  ... on StartMigrationSuccess { migration { id state } }
  ... on Error { code message remedy retryable path }
} }`
const input = {
  idempotencyKey: 'k',
  sourceVirtualMachineId: idOf('VirtualMachine', 'east/vm-1'),
  destinationCloudId: idOf('Cloud', 'west'),
  healthCheck: { http: { port: 8080, path: '/health' } },
}
const run = (changes: object = {}) =>
  api.run<{ startMigration: Record<string, unknown> }>(admin, start, { input: { ...input, ...changes } })

beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  admin = await api.tokenOf('ADMIN')
})
beforeEach(() => {
  api.behave({})
  api.called.length = 0
  api.logged.length = 0
})
afterAll(() => api.stop())

test('a start hands the request over with row ids and defaults, and answers with the migration', async () => {
  const { data } = await run({
    networkMap: [{ sourceNetworkId: idOf('Network', 'east/n1'), destinationNetworkId: idOf('Network', 'west/n1') }],
  })
  expect(data.startMigration).toEqual({ is: 'StartMigrationSuccess', migration: { id: idOf('Migration', 'm1'), state: 'RUNNING' } })
  expect(api.called).toEqual([
    [
      'startMigration',
      expect.objectContaining({ role: 'ADMIN' }),
      expect.objectContaining({
        idempotencyKey: 'k',
        sourceVirtualMachineId: 'east/vm-1',
        destinationCloudId: 'west',
        networkMap: [{ sourceNetworkId: 'east/n1', destinationNetworkId: 'west/n1' }],
        permittedDowntimeMs: 60_000,
        cutoverPolicy: 'AUTOMATIC',
        nonConvergencePolicy: 'KEEP_SYNCING',
        healthCheck: { kind: 'HTTP', port: 8080, path: '/health', timeoutMs: 120_000 },
      }),
    ],
  ])
})

test.for(errorCodes.filter((code) => code !== 'INTERNAL'))('%s is a typed error with its sentence, remedy and path', async (code) => {
  api.behave({
    startMigration: () =>
      Promise.reject(new PortolanError(code, 'It did not work.', { retryable: true, remedy: 'Do this.', path: ['input', 'healthCheck'] })),
  })
  const { data, errors } = await run()
  expect(errors).toBeUndefined()
  expect(data.startMigration).toEqual({
    is: expect.stringMatching(/Error$/),
    code,
    message: 'It did not work.',
    remedy: 'Do this.',
    retryable: true,
    path: ['input', 'healthCheck'],
  })
})

test.for([
  ['an unknown failure', new TypeError('secret at /etc/shadow')],
  ['an INTERNAL one', new PortolanError('INTERNAL', 'secret at /etc/shadow', { retryable: false, remedy: '-' })],
] as const)('%s is masked, and the log has it under the reference that the client got', async ([, failure]) => {
  api.behave({ startMigration: () => Promise.reject(failure) })
  const { errors } = await run()
  expect(JSON.stringify(errors)).not.toContain('shadow')
  expect(errors?.[0]?.extensions).toEqual({ code: 'INTERNAL', reference: expect.any(String) })
  expect(errors?.[0]?.message).toContain(errors?.[0]?.extensions['reference'])
  expect(api.logged).toEqual([
    ['error', expect.objectContaining({ reference: errors?.[0]?.extensions['reference'], err: failure }), expect.any(String)],
  ])
})

test.for([
  [{ sourceVirtualMachineId: 'nonsense' }, ['input', 'sourceVirtualMachineId']],
  [{ sourceVirtualMachineId: idOf('Cloud', 'east') }, ['input', 'sourceVirtualMachineId']],
  [{ destinationCloudId: '' }, ['input', 'destinationCloudId']],
  [{ networkMap: [{ sourceNetworkId: 'x', destinationNetworkId: 'y' }] }, ['input', 'networkMap', '0', 'sourceNetworkId']],
  [{ permittedDowntimeMs: 0 }, ['input', 'permittedDowntimeMs']],
  [{ idempotencyKey: '' }, ['input', 'idempotencyKey']],
  [{ idempotencyKey: 'x'.repeat(201) }, ['input', 'idempotencyKey']],
  [{ healthCheck: { tcp: { port: 0 } } }, ['input', 'healthCheck', 'tcp', 'port']],
  [{ healthCheck: { http: { port: 80, path: 'no-slash' } } }, ['input', 'healthCheck', 'http', 'path']],
  [{ healthCheck: { http: { port: 80, path: '/\r\nHost: evil' } } }, ['input', 'healthCheck', 'http', 'path']],
  [{ healthCheck: { http: { port: 80, timeoutMs: 3_600_001 } } }, ['input', 'healthCheck', 'http', 'timeoutMs']],
] as const)('%j is refused with its path, and no operation is called', async ([changes, path]) => {
  const { data } = await run(changes)
  expect(data.startMigration).toMatchObject({ is: 'InvalidInputError', code: 'INVALID_INPUT', path })
  expect(api.called).toEqual([])
})

test.for(['; rm -rf /', '../../etc/passwd', 'x'.repeat(100), '🐙', "'; drop table clouds; --"])(
  'the cloud name %s reaches the operation as it is',
  async (name) => {
    const { data } = await api.run<{ connectCloud: { is: string } }>(
      admin,
      `mutation ($input: ConnectCloudInput!) { connectCloud(input: $input) { is: __typename } }`,
      { input: { idempotencyKey: 'k', name, pluginId: 'alpha', options: { nested: [1, 'two', null] } } },
    )
    expect(data.connectCloud.is).toBe('ConnectCloudSuccess')
    expect(api.called.at(-1)?.[2]).toEqual({ idempotencyKey: 'k', name, pluginId: 'alpha', options: { nested: [1, 'two', null] } })
  },
)

test("the plugin's refusal of an option comes back with the option's path; options may be written in the document too", async () => {
  api.behave({
    connectCloud: () =>
      Promise.reject(
        new PortolanError('INVALID_OPTIONS', 'uri must be a URL.', {
          retryable: false,
          remedy: 'Correct it.',
          path: ['options', 'uri'],
        }),
      ),
  })
  const { data } = await api.run<{ connectCloud: unknown }>(
    admin,
    `mutation ($port: JSON!) { connectCloud(input: { idempotencyKey: "k", name: "n", pluginId: "alpha", options: { uri: "x", list: [1, 2.5, true, null], port: $port } }) {
      is: __typename ... on Error { code path } } }`,
    { port: 22 },
  )
  expect(data.connectCloud).toEqual({ is: 'InvalidInputError', code: 'INVALID_OPTIONS', path: ['input', 'options', 'uri'] })
  expect(api.called.at(-1)?.[2]).toMatchObject({ options: { uri: 'x', list: [1, 2.5, true, null], port: 22 } })
})

test('options that nest without end are refused with their place', async () => {
  const mutation =
    'mutation ($input: ConnectCloudInput!) { connectCloud(input: $input) { is: __typename ... on Error { code message path } } }'
  const connect = async (levels: number) => {
    // As text, since nothing here could write so deep a value either.
    const input = `{"idempotencyKey":"k","name":"n","pluginId":"alpha","options":${'['.repeat(levels)}${']'.repeat(levels)}}`
    const answer = await fetch(api.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${admin}` },
      body: `{"query":${JSON.stringify(mutation)},"variables":{"input":${input}}}`,
    })
    return answer.json()
  }
  expect(await connect(64)).toEqual({ data: { connectCloud: { is: 'ConnectCloudSuccess' } } })
  api.called.length = 0
  for (const levels of [65, 100_000])
    expect(await connect(levels)).toEqual({
      data: {
        connectCloud: {
          is: 'InvalidInputError',
          code: 'INVALID_INPUT',
          message: 'input.options nests more than 64 levels. Nothing was changed.',
          path: ['input', 'options'],
        },
      },
    })
  expect(api.called).toEqual([])
  expect(api.logged.filter(([level]) => level === 'error')).toEqual([])
})

test('a cutover may be asked for a moment', async () => {
  const cutOver = `mutation ($at: DateTime!) { cutOverMigration(input: { idempotencyKey: "k", migrationId: "${idOf('Migration', 'm1')}", at: $at }) { is: __typename } }`
  await api.run(admin, cutOver, { at: '2026-11-22T20:00:00+01:00' })
  expect(api.called.at(-1)?.[2]).toEqual({ idempotencyKey: 'k', migrationId: 'm1', at: new Date('2026-11-22T19:00:00Z') })
  const { errors } = await api.run(admin, cutOver, { at: 'tomorrow' })
  expect(errors?.[0]?.message).toContain('DateTime takes an ISO 8601 string')
})

test('an unknown plugin is told by its code and path', async () => {
  api.behave({
    connectCloud: () =>
      Promise.reject(new PortolanError('NOT_FOUND', 'There is no plugin "x".', { retryable: false, remedy: '-', path: ['pluginId'] })),
  })
  const { data } = await api.run<{ connectCloud: unknown }>(
    admin,
    'mutation { connectCloud(input: { idempotencyKey: "k", name: "n", pluginId: "x", options: {} }) { ... on Error { code path } } }',
  )
  expect(data.connectCloud).toEqual({ code: 'PLUGIN_UNKNOWN', path: ['input', 'pluginId'] })
})
