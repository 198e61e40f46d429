/** What retryMigration takes as `changes`, and refuses as startMigration does, before any operation is called. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { idOf, seed } from './seed.ts'

let api: ApiUnderTest
let operator: string

const retry = `mutation ($input: RetryMigrationInput!) { retryMigration(input: $input) {
  is: __typename
  ... on Error { code path }
} }`
const run = (input: object) =>
  api.run<{ retryMigration: object }>(operator, retry, { input: { idempotencyKey: 'k', migrationId: idOf('Migration', 'm1'), ...input } })
const mac = '52:54:00:12:34:56'
const hook = { name: 'flush', phase: 'FREEZE', when: 'BEFORE', command: ['sync'] }

beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  operator = await api.tokenOf('OPERATOR')
})
beforeEach(() => void (api.called.length = 0))
afterAll(() => api.stop())

test.for<[object, object]>([
  [{}, {}],
  [{ changes: null }, {}],
  [{ changes: {} }, { changes: {} }],
  [
    { changes: { permittedDowntimeMs: null, nonConvergencePolicy: null, healthCheck: null, hooks: null, addressing: null } },
    { changes: {} },
  ],
  [{ changes: { hooks: [], addressing: [] } }, { changes: { hooks: [], addressing: [] } }],
  [
    {
      changes: {
        permittedDowntimeMs: 1,
        nonConvergencePolicy: 'FORCE',
        healthCheck: { http: { port: 80 } },
        hooks: [hook],
        addressing: [{ mac: mac.toUpperCase(), dhcp: true }],
      },
    },
    {
      changes: {
        permittedDowntimeMs: 1,
        nonConvergencePolicy: 'FORCE',
        healthCheck: { kind: 'HTTP', port: 80, path: '/', timeoutMs: 120_000 },
        hooks: [
          {
            name: 'flush',
            phase: 'FREEZE',
            when: 'BEFORE',
            timeoutMs: 30_000,
            retries: 0,
            onFailure: 'FAIL',
            action: { kind: 'COMMAND', command: ['sync'] },
          },
        ],
        addressing: [{ mac, mode: 'DHCP' }],
      },
    },
  ],
])('%j is handed over', async ([input, handed]) => {
  const { data } = await run(input)
  expect(data.retryMigration).toEqual({ is: 'RetryMigrationSuccess' })
  expect(api.called).toEqual([['retryMigration', expect.anything(), { idempotencyKey: 'k', migrationId: 'm1', ...handed }]])
})

test.for<[string[], object]>([
  [['permittedDowntimeMs'], { permittedDowntimeMs: 0 }],
  [['healthCheck', 'tcp', 'port'], { healthCheck: { tcp: { port: 0 } } }],
  [['healthCheck', 'http', 'path'], { healthCheck: { http: { port: 80, path: '/\r\nHost: evil' } } }],
  [['healthCheck', 'http', 'timeoutMs'], { healthCheck: { http: { port: 80, timeoutMs: 3_600_001 } } }],
  [['hooks'], { hooks: Array.from({ length: 33 }, () => hook) }],
  [['hooks', '1', 'name'], { hooks: [hook, hook] }],
  [['hooks', '0'], { hooks: [{ ...hook, when: 'AFTER' }] }],
  [['addressing', '0'], { addressing: [{ mac, dhcp: true, static: { address: '192.0.2.7/24' } }] }],
  [['addressing'], { addressing: Array.from({ length: 65 }, () => ({ mac, dhcp: true })) }],
  [['addressing', '0', 'static', 'gateway'], { addressing: [{ mac, static: { address: '192.0.2.7/24', gateway: '192.0.3.1' } }] }],
])('what breaks a rule at %j is refused with its path, and no operation is called', async ([path, changes]) => {
  const { data } = await run({ changes: { permittedDowntimeMs: 1_000, ...changes } })
  expect(data.retryMigration).toEqual({ is: 'InvalidInputError', code: 'INVALID_INPUT', path: ['input', 'changes', ...path] })
  expect(api.called).toEqual([])
})

test('what decides which bytes are copied can not be named', async () => {
  for (const field of ['destinationCloudId', 'excludedDirectories', 'storageMap', 'networkMap', 'bandwidth', 'cutoverPolicy'])
    expect((await run({ changes: { [field]: null } })).errors?.[0]?.message, field).toContain(field)
  expect(api.called).toEqual([])
})
