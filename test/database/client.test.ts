import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openDatabase, type Database } from '../../src/database/client.ts'
import { changes } from '../../src/database/tables/change.ts'
import { clouds } from '../../src/database/tables/cloud.ts'
import { regions } from '../../src/database/tables/topology.ts'

let dataDirectory: string
const opened: Database[] = []

async function open(): Promise<Database> {
  const database = await openDatabase({ dataDirectory })
  opened.push(database)
  return database
}

function cloud(id: string) {
  return { id, name: id, pluginId: 'fake', sealedOptions: '', state: 'CONNECTED' as const, capabilities: [], connectedAt: new Date() }
}

beforeEach(async () => {
  dataDirectory = await mkdtemp(join(tmpdir(), 'portolan-database-'))
})
afterEach(async () => {
  await Promise.all(opened.splice(0).map((database) => database.close()))
  await rm(dataDirectory, { recursive: true })
})

describe('the database', () => {
  test('is created with its tables, and opened again with its content', async () => {
    const first = await open()
    await first.write((orm) => [orm.insert(clouds).values(cloud('east'))])
    await first.close()
    opened.pop()
    const second = await open()
    expect(await second.$count(clouds)).toBe(1)
  })

  test('is set up once when two control planes start on it together', async () => {
    const [one, other] = await Promise.all([open(), open()])
    await one.write((orm) => [orm.insert(clouds).values(cloud('east'))])
    expect(await other.$count(clouds)).toBe(1)
  })

  test('writes all or nothing, the change record too', async () => {
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

  test('takes concurrent transactions and writes one after the other', async () => {
    const database = await open()
    await database.write((orm) => [orm.insert(clouds).values({ ...cloud('counter'), problem: '0' })])
    const count = () =>
      database.transaction(async (tx) => {
        const [row] = await tx.select().from(clouds).where(eq(clouds.id, 'counter'))
        await tx
          .update(clouds)
          .set({ problem: String(Number(row!.problem) + 1) })
          .where(eq(clouds.id, 'counter'))
      })
    const writes = Array.from({ length: 20 }, (_, index) => database.write((orm) => [orm.insert(clouds).values(cloud(`cloud-${index}`))]))
    await Promise.all([...Array.from({ length: 50 }, count), ...writes])
    const [row] = await database.select().from(clouds).where(eq(clouds.id, 'counter'))
    expect(row!.problem).toBe('50')
    expect(await database.$count(clouds)).toBe(21)
  })

  test('goes on after a transaction that threw', async () => {
    const database = await open()
    const failing = database.transaction(async (tx) => {
      await tx.insert(clouds).values(cloud('east'))
      throw new Error('changed my mind')
    })
    await expect(failing).rejects.toThrow('changed my mind')
    await database.write((orm) => [orm.insert(clouds).values(cloud('west'))])
    expect((await database.select().from(clouds)).map(({ id }) => id)).toEqual(['west'])
  })

  test('drops the topology with its cloud', async () => {
    const database = await open()
    await database.write((orm) => [
      orm.insert(clouds).values(cloud('east')),
      orm.insert(regions).values({ id: 'east/r', cloudId: 'east', providerId: 'r', name: 'r' }),
    ])
    await database.write((orm) => [orm.delete(clouds)])
    expect(await database.$count(regions)).toBe(0)
  })
})

test('a database server that takes requests and answers none of them is given up', async () => {
  let taken = 0
  const server = createServer(() => taken++).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  try {
    await expect(openDatabase({ url, dataDirectory }, 500)).rejects.toThrow(
      expect.objectContaining({ cause: expect.objectContaining({ name: 'TimeoutError' }) }),
    )
    expect(taken).toBeGreaterThan(0)
  } finally {
    server.closeAllConnections()
    server.close()
  }
})
