import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
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

test('a listener hears what it asked for, and only that', async () => {
  const mine = vi.fn()
  const all = vi.fn()
  const other = vi.fn()
  feed.listen({ topics: ['MIGRATION'], subject: 'mine' }, mine)
  feed.listen({ topics: ['MIGRATION', 'CLOUD'] }, all)
  feed.listen({ topics: ['CLOUD'] }, other)
  await happened('mine')
  await vi.waitFor(() => expect(mine).toHaveBeenCalled())
  expect(all).toHaveBeenCalled()
  expect(other).not.toHaveBeenCalled()
})

test('a second control plane on the same database hears it too', async () => {
  const otherDatabase = await openDatabase({ dataDirectory })
  const otherFeed = await createChangeFeed(otherDatabase, { pollMs: 20 })
  cleanups.unshift(
    () => otherFeed.close(),
    () => otherDatabase.close(),
  )
  const heard = vi.fn()
  otherFeed.listen({ topics: ['MIGRATION_EVENT'] }, heard)
  await happened('far', 'MIGRATION_EVENT')
  await vi.waitFor(() => expect(heard).toHaveBeenCalled())
})

test('who stopped listening hears nothing more', async () => {
  const stopped = vi.fn()
  const witness = vi.fn()
  feed.listen({ topics: ['MIGRATION'] }, stopped)()
  feed.listen({ topics: ['MIGRATION'] }, witness)
  await happened('any')
  await vi.waitFor(() => expect(witness).toHaveBeenCalled())
  expect(stopped).not.toHaveBeenCalled()
})
