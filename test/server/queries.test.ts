import { printSchema } from 'graphql'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { schema } from '../../schema/index.ts'
import { migrations, rounds } from '../../src/database/tables/migration.ts'
import { exampleTabs } from '../../src/server/graphiql-examples.ts'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { idOf, migration, seed } from './seed.ts'

let api: ApiUnderTest
let viewer: string

beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  viewer = await api.tokenOf('VIEWER')
})
afterAll(() => api.stop())

test('the example of the first tab shows what is there, with objects for relations', async () => {
  const { data, errors } = await api.run<Record<string, unknown>>(viewer, exampleTabs[0]!.query)
  expect(errors).toBeUndefined()
  expect(data).toMatchObject({
    viewer: { tokenName: 'a viewer', role: 'VIEWER' },
    plugins: [{ pluginId: 'alpha', capabilities: ['records.put'] }, { pluginId: 'beta' }],
    clouds: {
      nodes: [
        {
          id: idOf('Cloud', 'east'),
          regions: [{ zones: [{ hosts: [{ name: 'host-1', freeMemoryBytes: null }] }] }],
          networks: [{ subnets: [{ cidr: '10.0.2.0/24' }] }],
          virtualMachines: {
            totalCount: 1,
            nodes: [{ disks: [{ sizeBytes: 2_147_483_648 }], networkInterfaces: [{ addresses: ['10.0.2.15'] }] }],
          },
        },
        { name: 'west', virtualMachines: { totalCount: 0 } },
      ],
    },
    migrations: { nodes: [{ state: 'RUNNING', source: { name: 'vm-001' }, destinationCloud: { name: 'west' } }] },
  })
})

test('a migration shows its rounds, events, findings, health check and request, with units', async () => {
  const { data, errors } = await api.run<{ migration: Record<string, unknown> }>(
    viewer,
    `query ($id: ID!) { migration(id: $id) {
      direction nonConvergencePolicy convergence verified downtime { totalMs } error { code }
      networkMap { source { name cloud { name } } destination { cloud { name } } }
      healthCheck { __typename port timeoutMs ... on HttpHealthCheck { path } }
      findings { code severity remedy }
      currentRound { round }
      rounds(last: 2) { totalCount nodes { round mode } pageInfo { hasPreviousPage } }
      events(orderBy: NEWEST_FIRST, first: 1) { totalCount nodes { sequence phase migration { id } } pageInfo { hasNextPage } }
    } }`,
    { id: idOf('Migration', 'm1') },
  )
  expect(errors).toBeUndefined()
  expect(data.migration).toEqual({
    direction: 'FORWARD',
    nonConvergencePolicy: 'KEEP_SYNCING',
    convergence: null,
    verified: null,
    downtime: null,
    error: null,
    networkMap: [{ source: { name: 'lan', cloud: { name: 'east' } }, destination: { cloud: { name: 'west' } } }],
    healthCheck: { __typename: 'HttpHealthCheck', port: 8080, timeoutMs: 30_000, path: '/health' },
    findings: [{ code: 'RESCAN', severity: 'WARNING', remedy: 'Mount tracefs in the guest.' }],
    currentRound: { round: 2 },
    rounds: {
      totalCount: 3,
      nodes: [
        { round: 1, mode: 'CHANGED' },
        { round: 2, mode: 'CHANGED' },
      ],
      pageInfo: { hasPreviousPage: true },
    },
    events: {
      totalCount: 2,
      nodes: [{ sequence: 2, phase: 'SYNC', migration: { id: idOf('Migration', 'm1') } }],
      pageInfo: { hasNextPage: true },
    },
  })
})

test('a failed migration shows its typed error, and equal roots as verified', async () => {
  await api.db.write((orm) => [
    orm.insert(migrations).values(
      migration('failed', {
        state: 'FAILED',
        sourceRoot: 'aa',
        destinationRoot: 'aa',
        downtime: { freezeMs: 1, transferMs: 2, verifyMs: 3, bootMs: 4, healthMs: 5 },
        errorCode: 'HEALTH_CHECK_FAILED',
        errorMessage: 'No answer on port 8080.',
        errorRemedy: 'Look at the console.',
        errorRetryable: true,
      }),
    ),
  ])
  const { data, errors } = await api.run<{ migration: unknown }>(
    viewer,
    `query ($id: ID!) { migration(id: $id) { verified downtime { totalMs } error { __typename code message remedy retryable path } } }`,
    { id: idOf('Migration', 'failed') },
  )
  expect(errors).toBeUndefined()
  expect(data.migration).toEqual({
    verified: true,
    downtime: { totalMs: 15 },
    error: {
      __typename: 'MigrationError',
      code: 'HEALTH_CHECK_FAILED',
      message: 'No answer on port 8080.',
      remedy: 'Look at the console.',
      retryable: true,
      path: [],
    },
  })
})

test('times beyond what an Int can say are shown as the most that it can, and parts of a millisecond as none', async () => {
  const ms = 3_000_000_000
  const most = 2_147_483_647
  const startedAt = new Date('2026-11-22T14:00:00Z')
  await api.db.write((orm) => [
    orm.insert(migrations).values(
      migration('long', {
        etaMs: ms,
        estimatedRemainingMs: ms,
        downtime: { freezeMs: ms, transferMs: ms, verifyMs: ms, bootMs: ms, healthMs: 0.4 },
        startedAt,
        endedAt: new Date(startedAt.getTime() + ms),
      }),
    ),
    orm.insert(rounds).values({
      migrationId: 'long',
      attempt: 1,
      round: 0,
      mode: 'FULL',
      state: 'DONE',
      scannedBytes: 1,
      totalBytes: 1,
      changedBytes: 1,
      bytesSent: 1,
      verifiedBytes: 1,
      durationMs: ms,
      startedAt,
    }),
  ])
  const { data, errors } = await api.run<{ migration: unknown }>(
    viewer,
    `query ($id: ID!) { migration(id: $id) {
      etaMs estimatedRemainingMs durationMs downtime { freezeMs transferMs verifyMs bootMs healthMs totalMs } currentRound { durationMs }
    } }`,
    { id: idOf('Migration', 'long') },
  )
  expect(errors).toBeUndefined()
  expect(data.migration).toEqual({
    etaMs: most,
    estimatedRemainingMs: most,
    durationMs: most,
    downtime: { freezeMs: most, transferMs: most, verifyMs: most, bootMs: most, healthMs: 0, totalMs: most },
    currentRound: { durationMs: most },
  })
})

test('every object with an id is found again by node, and what is not there is null', async () => {
  const ids = [
    idOf('Cloud', 'east'),
    idOf('Region', 'east/r1'),
    idOf('Zone', 'east/z1'),
    idOf('Host', 'east/h1'),
    idOf('Network', 'east/n1'),
    idOf('Subnet', 'east/s1'),
    idOf('VirtualMachine', 'east/vm-1'),
    idOf('Disk', 'east/d1'),
    idOf('NetworkInterface', 'east/nic1'),
    idOf('Migration', 'm1'),
    idOf('MigrationEvent', 'm1/1'),
    idOf('Plugin', 'alpha'),
  ]
  const { data } = await api.run<{ nodes: unknown[]; node: unknown }>(
    viewer,
    `query ($ids: [ID!]!, $gone: ID!) { nodes(ids: $ids) { __typename id } node(id: $gone) { id } }`,
    { ids, gone: idOf('Cloud', 'gone') },
  )
  expect(data.nodes).toEqual(ids.map((id) => ({ __typename: Buffer.from(id, 'base64').toString().split(':')[0], id })))
  expect(data.node).toBeNull()
})

test('of a type that can not be read by an id, or that does not exist, nothing has that id', async () => {
  const ids = [
    idOf('Cloud', 'east'),
    ...['Query', 'Node', 'PageInfo', 'Nothing'].map((type) => idOf(type, 'east')),
    idOf('Host', 'east/h1'),
  ]
  const { data, errors } = await api.run<{ nodes: ({ id: string } | null)[]; node: unknown }>(
    viewer,
    `query ($ids: [ID!]!, $id: ID!) { nodes(ids: $ids) { id } node(id: $id) { id } }`,
    { ids, id: ids[4] },
  )
  expect(errors).toBeUndefined()
  expect(data.nodes.map((node) => node?.id ?? null)).toEqual([ids[0], null, null, null, null, ids[5]])
  expect(data.node).toBeNull()
})

test('no field, filter or order leads to the sealed options', () => {
  expect(printSchema(schema)).not.toMatch(/sealed\w+:/)
})
