/** `DATABASE_URL`: several control planes on one real libsql server, over the network protocol instead of the file. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { startControlPlane } from '../../src/cli/control-plane-process.ts'
import { createGraphqlClient } from '../../src/cli/graphql-client.ts'
import { createChangeFeed } from '../../src/database/change-feed.ts'
import { openDatabase, type Database } from '../../src/database/client.ts'
import { changes } from '../../src/database/tables/change.ts'
import { clouds } from '../../src/database/tables/cloud.ts'
import { startLibsqlServer, type LibsqlServer } from './libsql-server.ts'

let directory: string
let server: LibsqlServer
let closing: (() => Promise<unknown>)[]

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-libsql-'))
  closing = [() => rm(directory, { recursive: true, force: true })]
  server = await startLibsqlServer(directory)
  closing.push(() => server.stop())
})
afterEach(async () => {
  vi.unstubAllEnvs()
  for (const close of closing.toReversed()) await close()
})

async function open(): Promise<Database> {
  const database = await openDatabase({ url: server.url, dataDirectory: join(directory, 'not used') })
  closing.push(() => database.close())
  return database
}

function cloud(id: string) {
  return { id, name: id, pluginId: 'fake', sealedOptions: '', state: 'CONNECTED' as const, capabilities: [], connectedAt: new Date() }
}

async function countUp(database: Database): Promise<void> {
  await database.transaction(async (tx) => {
    const [row] = await tx.select().from(clouds).where(eq(clouds.id, 'counter'))
    await tx
      .update(clouds)
      .set({ problem: String(Number(row!.problem) + 1) })
      .where(eq(clouds.id, 'counter'))
  })
}

test('two control planes share one server: no increment of either is lost, and each hears of what the other changed', async () => {
  const [one, other] = await Promise.all([open(), open()])
  const feed = await createChangeFeed(other, { pollMs: 20 })
  closing.push(() => feed.close())
  const heard = vi.fn()
  feed.listen({ topics: ['CLOUD'], subject: 'counter' }, heard)
  await one.write((orm) => [orm.insert(clouds).values({ ...cloud('counter'), problem: '0' })], [{ topic: 'CLOUD', subject: 'counter' }])
  await Promise.all(Array.from({ length: 40 }, (_, index) => countUp(index % 2 ? one : other)))
  expect((await one.select().from(clouds))[0]!.problem).toBe('40')
  await vi.waitFor(() => expect(heard).toHaveBeenCalled())
})

test('a write is all or nothing there, too', async () => {
  const database = await open()
  await database.write((orm) => [orm.insert(clouds).values(cloud('east'))])
  const twice = database.write(
    (orm) => [orm.insert(clouds).values(cloud('west')), orm.insert(clouds).values(cloud('east'))],
    [{ topic: 'CLOUD', subject: 'west' }],
  )
  await expect(twice).rejects.toThrow()
  expect(await database.$count(clouds)).toBe(1)
  expect(await database.$count(changes)).toBe(0)
})

test('a server that was killed has every acknowledged write when it is back, and the control plane goes on by itself', async () => {
  const database = await open()
  await database.write((orm) => [orm.insert(clouds).values({ ...cloud('counter'), problem: '0' })])
  await countUp(database)
  await server.stop('SIGKILL')
  await expect(countUp(database)).rejects.toThrow()
  server = await startLibsqlServer(directory, server.url)
  expect((await database.select().from(clouds))[0]!.problem).toBe('1')
  await countUp(database)
  expect((await database.select().from(clouds))[0]!.problem).toBe('2')
})

test('control planes with data directories of their own answer alike, and are not ready while the server is away', async () => {
  vi.stubEnv('DATABASE_URL', server.url)
  vi.stubEnv('PORTOLAN_SEAL_KEY', randomBytes(32).toString('base64'))
  const start = async (name: string) => {
    const own = await mkdtemp(join(directory, name))
    const controlPlane = await startControlPlane(own, { api: { port: 0 } })
    closing.push(() => controlPlane.stop())
    return controlPlane
  }
  const first = await start('first-')
  const second = await start('second-')
  expect(second.token).toBe('')
  const document = '{ viewer { role } }'
  const answers = [first, second].map(({ url }) => createGraphqlClient(url, first.token).run<object>(document, {}))
  expect(await Promise.all(answers)).toEqual([{ viewer: { role: 'ADMIN' } }, { viewer: { role: 'ADMIN' } }])

  const ready = async () => (await fetch(new URL('/ready', second.url))).status
  expect(await ready()).toBe(200)
  await server.stop()
  expect(await ready()).toBe(503)
  server = await startLibsqlServer(directory, server.url)
  expect(await ready()).toBe(200)
})
