import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createChangeFeed, type ChangeFeed } from '../../src/database/change-feed.ts'
import { openDatabase, type Change, type Database } from '../../src/database/client.ts'

let dataDirectory: string
let database: Database
let feed: ChangeFeed
const cleanups: (() => Promise<void>)[] = []

beforeEach(async () => {
  dataDirectory = await mkdtemp(join(tmpdir(), 'portolan-feed-'))
  database = await openDatabase({ dataDirectory })
  feed = await createChangeFeed(database, { pollMs: 20 })
  cleanups.push(
    () => feed.close(),
    () => database.close(),
    () => rm(dataDirectory, { recursive: true }),
  )
})
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup()
})

const happened = (subject: string, topic: Change['topic'] = 'MIGRATION') => database.write(() => [], [{ topic, subject }])

test('a subscriber hears what it asked for, and only that', async () => {
  const heard = feed.subscribe({ topic: 'MIGRATION', subject: 'mine' })
  await happened('other')
  await happened('mine', 'CLOUD')
  await happened('mine')
  expect((await heard.next()).value).toEqual({ topic: 'MIGRATION', subject: 'mine' })
})

test('a change between the subscription and the first look is not lost', async () => {
  const heard = feed.subscribe({ topic: 'MIGRATION' })
  await happened('early')
  await happened('later')
  expect([(await heard.next()).value?.subject, (await heard.next()).value?.subject]).toEqual(['early', 'later'])
})

test('a slow subscriber gets many changes of one subject as one', async () => {
  const heard = feed.subscribe({ topic: 'MIGRATION' })
  for (let index = 0; index < 20; index++) await happened('busy')
  await happened('last')
  const witness = feed.subscribe({ topic: 'MIGRATION', subject: 'witness' })
  await happened('witness')
  await witness.next()
  expect((await heard.next()).value?.subject).toBe('busy')
  expect((await heard.next()).value?.subject).toBe('last')
})

test('a second control plane on the same database hears it too', async () => {
  const otherDatabase = await openDatabase({ dataDirectory })
  const otherFeed = await createChangeFeed(otherDatabase, { pollMs: 20 })
  cleanups.unshift(
    () => otherFeed.close(),
    () => otherDatabase.close(),
  )
  const heard = otherFeed.subscribe({ topic: 'MIGRATION_EVENT' })
  await happened('far', 'MIGRATION_EVENT')
  expect((await heard.next()).value?.subject).toBe('far')
})

test('a subscription ends on abort, when its consumer leaves, and with the feed', async () => {
  const abort = new AbortController()
  const aborted = feed.subscribe({ topic: 'CLOUD' }, abort.signal)
  const waiting = aborted.next()
  abort.abort()
  expect((await waiting).done).toBe(true)

  const left = feed.subscribe({ topic: 'CLOUD' })
  await left.return?.()
  expect((await left.next()).done).toBe(true)

  const last = feed.subscribe({ topic: 'CLOUD' }).next()
  await feed.close()
  expect((await last).done).toBe(true)
})
