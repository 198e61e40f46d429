import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openDatabase, type Database } from '../../src/database/client.ts'
import { clouds } from '../../src/database/tables/cloud.ts'
import { idempotencyKeys } from '../../src/database/tables/idempotency-key.ts'
import { virtualMachines } from '../../src/database/tables/topology.ts'
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
/** Of each connection made, whether the plugin was told that its site was there before. */
let known: boolean[]

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-clouds-'))
  database = await openDatabase({ dataDirectory: directory })
  failure = null
  known = []
  const { east } = createFakeClouds(createFakeWorld(), {
    healthPort: 1,
    hook: () => {
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
      return { connection: east, capabilities: ['records.put'] }
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

test.each(['', ' east', 'a\u0000b', 'x'.repeat(101)])('the name %j is refused', async (name) => {
  await expect(connect('one', name)).rejects.toMatchObject({ code: 'INVALID_INPUT' })
})
