/** Idempotency over the API of a real control plane, killed between its commit and its answer. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createClient } from '@libsql/client'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startControlPlane, type ControlPlaneProcess } from '../../src/cli/control-plane-process.ts'
import { createGraphqlClient } from '../../src/cli/graphql-client.ts'
import { killControlPlane } from '../support/kill.ts'

let directory: string
let controlPlane: ControlPlaneProcess
let token: string
const start = () => startControlPlane(directory, { api: { port: 0 }, agents: { listen: [{ host: '127.0.0.1', port: 0 }] }, plugins: [] })
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-killed-'))
  controlPlane = await start()
  token = controlPlane.token
})
afterAll(async () => {
  await controlPlane.stop()
  await rm(directory, { recursive: true, force: true })
})

const create = (idempotencyKey: string) =>
  createGraphqlClient(controlPlane.url, token).run<{ createApiToken: { apiToken?: { name: string } } }>(
    'mutation ($input: CreateApiTokenInput!) { createApiToken(input: $input) { ... on CreateApiTokenSuccess { apiToken { name } } ... on Error { message } } }',
    { input: { idempotencyKey, name: idempotencyKey, role: 'VIEWER' } },
  )

/** Until the key is in the database: from then on what was asked for is done. */
async function committed(key: string): Promise<void> {
  const database = createClient({ url: `file:${join(directory, 'data/portolan.db')}` })
  const look = () => database.execute({ sql: 'select 1 from idempotency_keys where key = ?', args: [key] })
  // Its writer may just hold it.
  while ((await look().catch(() => null))?.rows.length !== 1) await delay(5)
  database.close()
}

test(
  'kill -9 once a mutation is committed: sent again under its key, it is answered, and was done once',
  { timeout: 120_000 },
  async () => {
    for (const key of ['first', 'second']) {
      // Most often nobody hears the answer; where somebody did, the same holds.
      const answer = create(key).catch(() => null)
      await committed(key)
      await killControlPlane(controlPlane)
      const heard = await answer
      controlPlane = await start()
      const again = await create(key)
      expect(again).toEqual({ createApiToken: { apiToken: { name: key } } })
      if (heard) expect(again).toEqual(heard)
      const { apiTokens } = await createGraphqlClient(controlPlane.url, token).run<{ apiTokens: { name: string }[] }>(
        '{ apiTokens { name } }',
      )
      expect(apiTokens.filter(({ name }) => name === key)).toHaveLength(1)
    }
  },
)
