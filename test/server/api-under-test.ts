/** A real API server on loopback with a real database in a directory of its own, and operations that a test decides about. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LoadedPlugin } from '../../schema/context.ts'
import { createChangeFeed } from '../../src/database/change-feed.ts'
import { openDatabase, type Database } from '../../src/database/client.ts'
import { apiTokens } from '../../src/database/tables/api-token.ts'
import { newApiToken } from '../../src/secrets/api-token.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import { createApiServer } from '../../src/server/create-server.ts'
import { createApiTokenOperations } from '../../src/workflows/api-token-operations.ts'
import { createAuditTrail, type AuditTrail } from '../../src/workflows/audit-trail.ts'
import { verifyAuditTrail, type AuditVerification } from '../../src/workflows/audit-verify.ts'
import { createIdempotency } from '../../src/workflows/idempotency.ts'
import type { Actor, Operations } from '../../src/workflows/operations.ts'

export interface ApiUnderTest {
  url: string
  db: Database
  audit: AuditTrail
  verifyAuditTrail(): Promise<AuditVerification>
  dataDirectory: string
  /** Lines that the server logged, as `[level, fields, message]`. */
  logged: [string, object, string][]
  /** Calls of operations, in order, as `[name, actor, input]`. */
  called: [keyof Operations, Actor, unknown][]
  /** What an operation answers, by default an id that exists; a test may throw instead. */
  behave(operations: Partial<Operations>): void
  /** What the rest of the control plane says of itself to /ready. */
  setReady(ready: boolean): void
  tokenOf(role: Actor['role']): Promise<string>
  post(token: string | null, query: string, variables?: object, headers?: Record<string, string>): Promise<Response>
  /** Posts and gives the parsed answer. */
  run<Data = Record<string, never>>(token: string, query: string, variables?: object): Promise<Answer<Data>>
  /** Another control plane's API on the same database. */
  another(): Promise<ApiUnderTest>
  stop(): Promise<void>
}

/** Of the servers that `startApi` starts. */
const sealKeyBytes = Buffer.alloc(32, 7)

interface Answer<Data> {
  data: Data
  errors?: { message: string; path?: string[]; extensions: Record<string, unknown> }[]
}

const plugins: LoadedPlugin[] = [
  { id: 'alpha', apiVersion: { major: 1, minor: 0 }, optionsJsonSchema: { type: 'object' }, capabilities: ['records.put'] },
  { id: 'beta', apiVersion: { major: 1, minor: 0 }, optionsJsonSchema: null, capabilities: [] },
]

export async function startApi(existingDirectory?: string): Promise<ApiUnderTest> {
  const dataDirectory = existingDirectory ?? (await mkdtemp(join(tmpdir(), 'portolan-api-')))
  const db = await openDatabase({ dataDirectory })
  const changes = await createChangeFeed(db, { pollMs: 20 })
  const logged: ApiUnderTest['logged'] = []
  const called: ApiUnderTest['called'] = []
  const log = (level: string) => (fields: object, message: string) => void logged.push([level, fields, message])
  let behaviour: Partial<Operations> = {}
  let isReady = true
  const others: ApiUnderTest[] = []
  const sealKey = sealKeyOf(sealKeyBytes)
  const audit = createAuditTrail({ database: db, sealKey })
  const tokens = createApiTokenOperations({ idempotency: createIdempotency(db, sealKey, audit) })

  const server = await createApiServer({
    db,
    operations: operationsOf(() => ({ ...tokens, ...behaviour }), called),
    audit,
    changes,
    plugins: { list: async () => plugins },
    log: { info: log('info'), warn: log('warn'), error: log('error') },
    host: '127.0.0.1',
    port: 0,
    isReady: async () => isReady,
  })

  const api: ApiUnderTest = {
    url: server.url,
    db,
    audit,
    verifyAuditTrail: () => verifyAuditTrail({ database: db, sealKey, witness: null }),
    dataDirectory,
    logged,
    called,
    behave: (operations) => void (behaviour = operations),
    setReady: (ready) => void (isReady = ready),
    async tokenOf(role) {
      const { token, hash } = newApiToken()
      await db.write((orm) => [
        orm
          .insert(apiTokens)
          .values({ id: `token-${hash.slice(0, 8)}`, name: `a ${role.toLowerCase()}`, role, hash, createdAt: new Date() }),
      ])
      return token
    },
    post: (token, query, variables, headers) =>
      fetch(server.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...(token !== null && { authorization: `Bearer ${token}` }), ...headers },
        body: JSON.stringify({ query, variables }),
      }),
    async run<Data>(token: string, query: string, variables?: object) {
      return (await (await api.post(token, query, variables)).json()) as Answer<Data>
    },
    async another() {
      const other = await startApi(dataDirectory)
      others.push(other)
      return other
    },
    async stop() {
      for (const other of others.splice(0)) await other.stop()
      await server.stop()
      await changes.close()
      await db.close()
      if (!existingDirectory) await rm(dataDirectory, { recursive: true, force: true })
    },
  }
  return api
}

/** Every operation that there is, also one that no test here has heard of: by default its answer is its input, ids included. */
function operationsOf(behaviour: () => Partial<Operations>, called: ApiUnderTest['called']): Operations {
  const defaults: Partial<Operations> = {
    connectCloud: async () => ({ cloudId: 'east' }),
    validateMigration: async () => [],
    migrationVerdicts: async () => [],
    startMigration: async () => ({ migrationId: 'm1' }),
  }
  const echo = async (_actor: Actor, input: unknown) => input
  return new Proxy({} as Operations, {
    get: (_, name: keyof Operations) => (actor: Actor, input: never) => {
      called.push([name, actor, input])
      const operation = (behaviour()[name] ?? defaults[name] ?? echo) as (actor: Actor, input: never) => Promise<unknown>
      return operation(actor, input)
    },
  })
}
