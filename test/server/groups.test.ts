import { afterAll, beforeAll, expect, test } from 'vitest'
import { migrations } from '../../src/database/tables/migration.ts'
import { migrationGroupMembers, migrationGroups } from '../../src/database/tables/migration-group.ts'
import { PortolanError } from '../../src/domain/errors.ts'
import { startApi, type ApiUnderTest } from './api-under-test.ts'
import { idOf, migration, seed } from './seed.ts'

let api: ApiUnderTest
let operator: string
const groupId = idOf('MigrationGroup', 'g1')

beforeAll(async () => {
  api = await startApi()
  await seed(api.db)
  const at = new Date('2026-11-22T14:00:00Z')
  const { request } = migration('m1')
  const member = (position: number, values: Partial<typeof migrationGroupMembers.$inferInsert> = {}) => ({
    id: `g1-${position}`,
    groupId: 'g1',
    position,
    name: `member ${position}`,
    dependsOn: position === 0 ? [] : [`member ${position - 1}`],
    request,
    ...values,
  })
  await api.db.write((orm) => [
    orm.insert(migrationGroups).values({
      id: 'g1',
      name: 'wave',
      state: 'RUNNING',
      desired: 'RUN',
      cutoverPolicy: 'MANUAL',
      cutoverAt: at,
      createdAt: at,
      updatedAt: at,
    }),
    orm
      .insert(migrationGroupMembers)
      .values([
        member(0, { migrationId: 'm1' }),
        ...Array.from({ length: 30 }, (_, index) => member(index + 1)),
        member(31, { refusalCode: 'NOT_FOUND', refusalMessage: 'It is gone.', refusalRemedy: 'Wait.' }),
      ]),
  ])
  operator = await api.tokenOf('OPERATOR')
})
afterAll(() => api.stop())

const input = (change: object = {}) => ({
  idempotencyKey: 'key',
  name: 'wave',
  members: [memberInput('web', ['db']), memberInput('db')],
  ...change,
})
const memberInput = (name: string, dependsOn: string[] = [], change: object = {}) => ({
  name,
  dependsOn,
  sourceVirtualMachineId: idOf('VirtualMachine', 'east/vm-1'),
  destinationCloudId: idOf('Cloud', 'west'),
  healthCheck: { tcp: { port: 22 } },
  ...change,
})
const create =
  'mutation ($input: CreateMigrationGroupInput!) { createMigrationGroup(input: $input) { __typename ... on CreateMigrationGroupSuccess { migrationGroup { name } } ... on Error { code message path } } }'
const createWith = async (change: object = {}) =>
  (await api.run<{ createMigrationGroup: object }>(operator, create, { input: input(change) })).data.createMigrationGroup

test('a thousand members are taken in one request, and one more is refused', async () => {
  api.behave({ createMigrationGroup: async () => ({ migrationGroupId: 'g1' }) })
  const members = Array.from({ length: 1000 }, (_, index) =>
    memberInput(`a name of some length for member ${index}`, index === 0 ? [] : [`a name of some length for member ${index - 1}`]),
  )
  expect(await createWith({ members })).toEqual({ __typename: 'CreateMigrationGroupSuccess', migrationGroup: { name: 'wave' } })
  expect(api.called.at(-1)).toMatchObject([
    'createMigrationGroup',
    { role: 'OPERATOR' },
    { cutoverPolicy: 'AUTOMATIC', members: { length: 1000 } },
  ])
  expect(await createWith({ members: [...members, memberInput('one more')] })).toMatchObject({
    code: 'INVALID_INPUT',
    path: ['input', 'members'],
  })
  expect(await createWith({ members: [] })).toMatchObject({ code: 'INVALID_INPUT', path: ['input', 'members'] })
})

test('what is wrong with a member is said with its place', async () => {
  expect(await createWith({ members: [memberInput('db'), memberInput('web', [], { healthCheck: { tcp: { port: 0 } } })] })).toMatchObject({
    __typename: 'InvalidInputError',
    path: ['input', 'members', '1', 'healthCheck', 'tcp', 'port'],
    message: expect.stringContaining('Member 1'),
  })
  expect(await createWith({ members: [memberInput('web', [], { sourceVirtualMachineId: groupId })] })).toMatchObject({
    path: ['input', 'members', '0', 'sourceVirtualMachineId'],
  })
})

test('members come in pages, each with its state, what it waits for, its migration, and why it could not be started', async () => {
  const query = `query ($id: ID!, $states: [MigrationGroupMemberState!]) { migrationGroup(id: $id) { name state cutoverAt memberCounts { state count } members(first: 2, states: $states) {
    totalCount pageInfo { hasNextPage } nodes { name state awaits stoppedBy source { name } migration { phase queuePosition cutoverAt group { name } } refusal { code message } } } } }`
  const ask = async (states?: string[]) =>
    (await api.run<{ migrationGroup: object }>(operator, query, { id: groupId, states })).data.migrationGroup
  const cutoverAt = '2026-11-22T14:00:00.000Z'
  expect(await ask()).toEqual({
    name: 'wave',
    state: 'RUNNING',
    cutoverAt,
    memberCounts: [
      { state: 'WAITING_FOR_SLOT', count: 30 },
      { state: 'RUNNING', count: 1 },
      { state: 'FAILED', count: 1 },
    ],
    members: {
      totalCount: 32,
      pageInfo: { hasNextPage: true },
      nodes: [
        {
          name: 'member 0',
          state: 'RUNNING',
          awaits: [],
          stoppedBy: null,
          source: { name: 'vm-001' },
          migration: { phase: 'SYNC', queuePosition: null, cutoverAt, group: { name: 'wave' } },
          refusal: null,
        },
        {
          name: 'member 1',
          state: 'WAITING_FOR_SLOT',
          awaits: ['member 0'],
          stoppedBy: null,
          source: { name: 'vm-001' },
          migration: null,
          refusal: null,
        },
      ],
    },
  })
  expect(await ask(['FAILED'])).toMatchObject({
    members: { totalCount: 1, nodes: [{ name: 'member 31', refusal: { code: 'NOT_FOUND', message: 'It is gone.' } }] },
  })
})

test('a group is watched from its present state to its end, also when only a migration of it changes, and not when others do', async () => {
  const stream = await api.post(
    operator,
    'subscription ($id: ID!) { migrationGroupChanges(migrationGroupId: $id) { state memberCounts { state count } } }',
    { id: groupId },
    { accept: 'text/event-stream' },
  )
  const reader = stream.body!.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  const seen = () =>
    [...text.matchAll(/"migrationGroupChanges":(\{.*?\}\]\})/g)].map(
      ([, json]) => JSON.parse(json!) as { state: string; memberCounts: { state: string }[] },
    )
  const more = async (count: number) => {
    while (seen().length < count) text += (await reader.read()).value ?? ''
    return seen().at(-1)!
  }
  expect(await more(1)).toMatchObject({ state: 'RUNNING' })
  await api.db.write((orm) => [orm.insert(migrations).values(migration('another'))], [{ topic: 'MIGRATION', subject: 'another' }])
  await api.db.write(
    (orm) => [orm.update(migrations).set({ state: 'PAUSED', updatedAt: new Date() })],
    [{ topic: 'MIGRATION', subject: 'm1' }],
  )
  expect((await more(2)).memberCounts).toContainEqual({ state: 'PAUSED', count: 1 })
  await api.db.write(
    (orm) => [orm.update(migrationGroups).set({ state: 'FAILED', endedAt: new Date() })],
    [{ topic: 'MIGRATION_GROUP', subject: 'g1' }],
  )
  expect(await more(3)).toMatchObject({ state: 'FAILED' })
  expect((await reader.read()).value ?? '').toContain('complete')
})

test('what an operator may not do now comes as an error that a client can act on; limits are for admins', async () => {
  api.behave({
    pauseMigrationGroup: async () => {
      throw new PortolanError('NOT_ALLOWED_NOW', 'It has ended.', {
        retryable: false,
        remedy: 'Start another.',
        path: ['input', 'migrationGroupId'],
      })
    },
  })
  const pause = 'mutation ($input: PauseMigrationGroupInput!) { pauseMigrationGroup(input: $input) { ... on Error { code } } }'
  expect((await api.run(operator, pause, { input: { idempotencyKey: 'key', migrationGroupId: groupId } })).data).toEqual({
    pauseMigrationGroup: { code: 'NOT_ALLOWED_NOW' },
  })
  const limits = `mutation ($input: SetConcurrencyLimitsInput!) { setConcurrencyLimits(input: $input) { ... on SetConcurrencyLimitsSuccess { limits { scope limit cloud { name } host { name } } } ... on Error { code path } } }`
  const set = (token: string, entry: object) =>
    api.run<{ setConcurrencyLimits: object }>(token, limits, { input: { idempotencyKey: 'key', limits: [entry] } })
  expect((await set(operator, { scope: 'CLOUD', limit: 1 })).errors?.[0]?.extensions).toMatchObject({ code: 'FORBIDDEN' })
  const admin = await api.tokenOf('ADMIN')
  expect((await set(admin, { scope: 'HOST', cloudId: idOf('Cloud', 'east'), limit: 1 })).data.setConcurrencyLimits).toMatchObject({
    code: 'INVALID_INPUT',
    path: ['input', 'limits', '0', 'cloudId'],
  })
  expect((await set(admin, { scope: 'HOST', hostId: idOf('Host', 'east/h1'), limit: 1 })).data.setConcurrencyLimits).toEqual({
    limits: [
      { scope: 'CLOUD', limit: 8, cloud: null, host: null },
      { scope: 'HOST', limit: 4, cloud: null, host: null },
      { scope: 'DISK', limit: 4, cloud: null, host: null },
    ],
  })
  expect(api.called.at(-1)).toMatchObject([
    'setConcurrencyLimits',
    { role: 'ADMIN' },
    { limits: [{ scope: 'HOST', subject: 'east/h1', limit: 1 }] },
  ])
})
