import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openDatabase, type Database } from '../../src/database/client.ts'
import { changes } from '../../src/database/tables/change.ts'
import { clouds } from '../../src/database/tables/cloud.ts'
import { idempotencyKeys } from '../../src/database/tables/idempotency-key.ts'
import { jobChildren, jobs } from '../../src/database/tables/job.ts'
import { parentVmCopies, parentVms } from '../../src/database/tables/parent-vm.ts'
import { regions, virtualMachines } from '../../src/database/tables/topology.ts'
import { ProviderError } from '../../src/plugin-sdk/index.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import { createCloudConnections, type CloudConnections } from '../../src/workflows/cloud-connections.ts'
import { createCloudOperations, type CloudOperations } from '../../src/workflows/cloud-operations.ts'
import { createIdempotency } from '../../src/workflows/idempotency.ts'
import { createFakeClouds } from './support/fake-clouds.ts'
import { createFakeWorld } from './support/fake-world.ts'
import { operator } from './support/migration-settings-for-tests.ts'

const secret = 'hunter2'
let directory: string
let database: Database
let connections: CloudConnections
let operations: CloudOperations
let failure: Error | null
/** What happens at a cloud's answer before its asker has it. */
let beforeAnswer: () => Promise<unknown>
/** Of each connection made, whether the plugin was told that its site was there before. */
let known: boolean[]
/** What a connection that is being opened waits for. */
let mayOpen: () => Promise<void>
/** The `account` of each connection that was closed. */
let closed: unknown[]

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-clouds-'))
  database = await openDatabase({ dataDirectory: directory })
  failure = null
  beforeAnswer = async () => {}
  known = []
  mayOpen = async () => {}
  closed = []
  const { east } = createFakeClouds(createFakeWorld(), {
    healthPort: 1,
    hook: async (_call, when) => {
      if (when === 'after') await beforeAnswer()
      if (failure) throw failure
    },
  })
  const sealKey = sealKeyOf(Buffer.alloc(32, 7))
  const plugins = {
    async connect(_pluginId: string, options: unknown, context: { known: boolean }) {
      known.push(context.known)
      if ((options as { password: string }).password !== secret)
        throw new ProviderError('UNAUTHORIZED', 'The password is wrong.', {
          retryable: false,
          remedy: 'Correct it.',
          path: ['options', 'password'],
        })
      await mayOpen()
      const close = async () => void closed.push((options as { account?: string }).account)
      return { connection: { ...east, close }, capabilities: ['records.put'] }
    },
  }
  connections = createCloudConnections({ database, plugins, sealKey, log: () => {} })
  operations = createCloudOperations({ database, connections, idempotency: createIdempotency(database, sealKey), sealKey })
})
afterEach(async () => {
  await connections.close()
  await database.close()
  await rm(directory, { recursive: true })
})

const connect = (idempotencyKey: string, name = 'east', password = secret) =>
  operations.connectCloud(operator, { idempotencyKey, name, pluginId: 'fake', options: { password } })

test('a connected cloud shows what it holds, and its credentials nowhere in the clear', async () => {
  await connect('one')
  const [cloud] = await database.select().from(clouds)
  expect(cloud).toMatchObject({ state: 'CONNECTED', capabilities: ['records.put'], problem: null })
  expect(await database.select().from(virtualMachines)).toMatchObject([{ name: 'victim', present: true }])
  expect(JSON.stringify([cloud, await database.select().from(idempotencyKeys)])).not.toContain(secret)
})

test('the same key connects once, and a taken name is refused', async () => {
  expect(await connect('one')).toEqual(await connect('one'))
  await expect(connect('two')).rejects.toMatchObject({ code: 'CONFLICT' })
  const both = await Promise.allSettled([connect('three', 'new'), connect('four', 'new')])
  expect(both.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected'])
})

test('wrong credentials store nothing', async () => {
  await expect(connect('one', 'east', 'guess')).rejects.toMatchObject({ code: 'UNAUTHORIZED_AT_CLOUD', path: ['options', 'password'] })
  expect(await database.$count(clouds)).toBe(0)
})

test('a cloud that goes away is said to be unreachable, and what was known of it stays', async () => {
  const { cloudId } = await connect('one')
  failure = new ProviderError('UNREACHABLE', 'Nobody answers.', { retryable: true, remedy: 'See the network.' })
  const refresh = (idempotencyKey: string) => operations.refreshTopology(operator, { idempotencyKey, cloudId })
  await expect(refresh('two')).rejects.toMatchObject({ code: 'CLOUD_UNREACHABLE', retryable: true })
  expect(await database.select().from(clouds)).toMatchObject([{ state: 'UNREACHABLE', problem: 'Nobody answers.' }])
  expect(await database.select().from(virtualMachines)).toMatchObject([{ present: true, power: 'UNKNOWN' }])
  failure = null
  await refresh('three')
  expect(await database.select().from(clouds)).toMatchObject([{ state: 'CONNECTED', problem: null }])
})

test('only who connects a cloud may find it new: a control plane that starts expects what was there', async () => {
  const { cloudId } = await connect('one')
  await connections.drop(cloudId)
  await operations.refreshTopology(operator, { idempotencyKey: 'two', cloudId })
  expect(known).toEqual([false, true])
})

test('a disconnected cloud keeps its row but no credentials, and is the same cloud when it is connected again', async () => {
  const { cloudId } = await connect('one')
  await operations.disconnectCloud(operator, { idempotencyKey: 'two', cloudId })
  expect(await database.select().from(clouds)).toMatchObject([{ state: 'DISCONNECTED', sealedOptions: '' }])
  expect(await database.select().from(virtualMachines)).toMatchObject([{ present: false }])
  await expect(connections.connection(cloudId, new AbortController().signal)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  expect(await connect('three')).toEqual({ cloudId })
})

test.each(['is read', 'fails'])('a cloud that is disconnected while a refresh of it %s stays as it is then', async (end) => {
  const { cloudId } = await connect('one')
  const held = () => Promise.all([clouds, virtualMachines, regions, changes].map((table) => database.select().from(table)))
  let then: unknown
  beforeAnswer = async () => {
    await operations.disconnectCloud(operator, { idempotencyKey: 'two', cloudId })
    then = await held()
    if (end === 'fails') failure = new ProviderError('UNREACHABLE', 'The connection was closed.', { retryable: true, remedy: '-' })
  }
  const [refreshed] = await Promise.allSettled([operations.refreshTopology(operator, { idempotencyKey: 'three', cloudId })])
  expect(await held()).toEqual(then)
  expect(refreshed).toMatchObject({ reason: { code: 'NOT_FOUND' } })
})

/** Opens that wait for each other, so that all of them are tried before one is stored. */
function allOpenTogether(count: number) {
  const { promise, resolve } = Promise.withResolvers<void>()
  let opening = 0
  mayOpen = () => {
    if (++opening === count) resolve()
    return promise
  }
}
const connectAs = (idempotencyKey: string, account: string) =>
  operations.connectCloud(operator, { idempotencyKey, name: 'east', pluginId: 'fake', options: { password: secret, account } })

test('of two that connect a disconnected cloud again at once, the later one is refused, and its connection is closed', async () => {
  const { cloudId } = await connect('one')
  await operations.disconnectCloud(operator, { idempotencyKey: 'two', cloudId })
  closed = []
  allOpenTogether(2)
  const accounts = ['first', 'second']
  const both = await Promise.allSettled(accounts.map((account) => connectAs(account, account)))
  expect(both.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected'])
  const loser = both.findIndex(({ status }) => status === 'rejected')
  expect(both[loser]).toMatchObject({ reason: { code: 'CONFLICT', path: ['input', 'name'] } })
  expect(both[1 - loser]).toMatchObject({ value: { cloudId } })
  expect(closed).toEqual([accounts[loser]])
  await connections.drop(cloudId)
  expect(closed).toEqual([accounts[loser], accounts[1 - loser]])
})

test('one key connects a disconnected cloud again once, also when it is sent twice at once', async () => {
  const { cloudId } = await connect('one')
  await operations.disconnectCloud(operator, { idempotencyKey: 'two', cloudId })
  allOpenTogether(2)
  expect(await Promise.all([connectAs('three', 'same'), connectAs('three', 'same')])).toEqual([{ cloudId }, { cloudId }])
  expect(closed).toEqual([undefined, 'same'])
})

test('a connection that is adopted closes the one in whose place it comes', async () => {
  const open = (account: string) => connections.open('fake', { password: secret, account }, new AbortController().signal)
  connections.adopt('a-cloud', 'sealed', await open('first'))
  connections.adopt('a-cloud', 'sealed', await open('second'))
  await connections.drop('a-cloud')
  expect(closed).toEqual(['first', 'second'])
})

describe('a cloud stays connected', () => {
  const now = new Date()
  const disconnect = (cloudId: string, idempotencyKey: string) => operations.disconnectCloud(operator, { idempotencyKey, cloudId })

  test('while a child of a job lives there', async () => {
    const { cloudId } = await connect('one')
    await database.write((orm) => [
      orm.insert(jobs).values({
        id: 'job',
        name: 'primes',
        state: 'RUNNING',
        desired: 'RUN',
        engineId: 'engine',
        tasksTotal: 1,
        components: 1,
        request: {} as typeof jobs.$inferInsert.request,
        createdAt: now,
        updatedAt: now,
      }),
      orm.insert(jobChildren).values({ id: 'child', jobId: 'job', cloudId, ordinal: 1, state: 'READY', createdAt: now }),
    ])
    await expect(disconnect(cloudId, 'two')).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('"primes"') })
    expect(await database.select().from(clouds)).toMatchObject([{ state: 'CONNECTED' }])
    await database.write((orm) => [orm.update(jobChildren).set({ state: 'LOST' })])
    await disconnect(cloudId, 'three')
  })

  test('while a parent VM is built there, or has children that stand ready there', async () => {
    const { cloudId } = await connect('one')
    const recipe = {} as typeof parentVms.$inferInsert.recipe
    await database.write((orm) => [
      orm.insert(parentVms).values({
        id: 'parent',
        name: 'node',
        recipe,
        recipeDigest: '',
        state: 'BUILDING',
        pausedChildren: 2,
        engineId: 'engine',
        createdAt: now,
        updatedAt: now,
      }),
      orm.insert(parentVmCopies).values({ parentVmId: 'parent', generation: 1, cloudId, state: 'BUILDING' }),
    ])
    await expect(disconnect(cloudId, 'two')).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('being built') })
    await database.write((orm) => [orm.update(parentVms).set({ state: 'READY' }), orm.update(parentVmCopies).set({ state: 'READY' })])
    await expect(disconnect(cloudId, 'three')).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('stand ready') })
    await database.write((orm) => [orm.update(parentVms).set({ pausedChildren: 0 })])
    await disconnect(cloudId, 'four')
  })
})

test.each(['', ' east', 'a\u0000b', 'x'.repeat(101)])('the name %j is refused', async (name) => {
  await expect(connect('one', name)).rejects.toMatchObject({ code: 'INVALID_INPUT' })
})
