/**
 * The database: a libsql file in the data directory, or a libsql server by URL, which several control planes may share.
 *
 * libsql runs a file's statements synchronously in this process, and two write transactions at once end in SQLITE_BUSY after the busy time-out with
 * the event loop frozen. So all writes pass through one queue here (`write`, `transaction`), and only reads are offered beside it.
 */
import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { createClient } from '@libsql/client'
import type { BatchItem } from 'drizzle-orm/batch'
import { drizzle, type LibSQLDatabase } from 'drizzle-orm/libsql'
import { migrate } from 'drizzle-orm/libsql/migrator'
import { changes } from './tables/change.ts'

/** What subscribers are told: which thing is another now. They read it anew. */
export interface Change {
  topic: (typeof changes.$inferSelect)['topic']
  /** The migration's or cloud's id. */
  subject: string
}

type Orm = LibSQLDatabase
/** The builder inside a transaction. */
export type Transaction = Parameters<Parameters<Orm['transaction']>[0]>[0]
type Statement = BatchItem<'sqlite'>

export interface Database {
  readonly select: Orm['select']
  readonly selectDistinct: Orm['selectDistinct']
  readonly $count: Orm['$count']
  /** Runs the built statements as one transaction, with a change record for each change in it. */
  write(build: (orm: Orm) => Statement[], changed?: Change[]): Promise<void>
  /** For writes that depend on reads. Keep it short, and await nothing but the database in it. */
  transaction<Result>(work: (tx: Transaction) => Promise<Result>, changed?: Change[]): Promise<Result>
  /** Called after each write of this process that recorded changes. Returns what stops it. */
  onChange(listener: () => void): () => void
  /** Waits for the writes under way. */
  close(): Promise<void>
}

const busyTimeoutMs = 10_000
/** All writes wait behind the one under way: a server that takes a request and stands still must not hold them for as long as `fetch` would wait. */
const requestTimeoutMs = 30_000
const upgradesFolder = resolve(import.meta.dirname, 'upgrades')

/**
 * Opens the database, creates it when it isn't there, and applies the upgrades. Give `url` (`libsql://…`, `http://…`, `file:…`; an `authToken` may
 * be part of its query), or `dataDirectory` for a file of our own in it.
 */
export async function openDatabase(
  where: { url?: string | undefined; dataDirectory: string },
  timeoutMs = requestTimeoutMs,
): Promise<Database> {
  if (!where.url) mkdirSync(where.dataDirectory, { recursive: true, mode: 0o700 })
  const url = where.url ?? pathToFileURL(join(resolve(where.dataDirectory), 'portolan.db')).href
  const client = createClient({
    url,
    timeout: busyTimeoutMs,
    fetch: (request: Request) => fetch(request, { signal: AbortSignal.timeout(timeoutMs) }),
  })
  if (url.startsWith('file:')) await client.execute('PRAGMA journal_mode = WAL')
  const orm = drizzle({ client })
  await applyUpgrades(orm)

  const inOrder = createQueue()
  const listeners = new Set<() => void>()
  const changed = (happened: Change[]) => {
    if (happened.length > 0) for (const listener of listeners) listener()
  }
  return {
    select: orm.select.bind(orm),
    selectDistinct: orm.selectDistinct.bind(orm),
    $count: orm.$count.bind(orm),
    async write(build, happened = []) {
      const statements = [...build(orm), ...changeStatements(orm, happened)]
      const [first, ...rest] = statements
      if (!first) return
      await inOrder(() => orm.batch([first, ...rest]))
      changed(happened)
    },
    async transaction(work, happened = []) {
      const result = await inOrder(() =>
        orm.transaction(async (tx) => {
          const answer = await work(tx)
          for (const statement of changeStatements(tx, happened)) await statement
          return answer
        }),
      )
      changed(happened)
      return result
    },
    onChange(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    async close() {
      await inOrder(async () => client.close())
    },
  }
}

function changeStatements(orm: Pick<Orm, 'insert'>, happened: Change[]) {
  const at = new Date()
  return happened.length === 0 ? [] : [orm.insert(changes).values(happened.map((change) => ({ ...change, at })))]
}

/** Two control planes may start on one new database: who comes second finds the tables there, and looks again. */
async function applyUpgrades(orm: Orm): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return void (await migrate(orm, { migrationsFolder: upgradesFolder }))
    } catch (error) {
      if (attempt === 5) throw error
      await new Promise((done) => setTimeout(done, 100 * attempt))
    }
  }
}

function createQueue(): <Result>(work: () => Promise<Result>) => Promise<Result> {
  let last: Promise<unknown> = Promise.resolve()
  return (work) => {
    const mine = last.then(work)
    last = mine.catch(() => {})
    return mine
  }
}
