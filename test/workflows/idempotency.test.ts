import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { apiTokens } from '../../src/database/tables/api-token.ts'
import { idempotencyKeys } from '../../src/database/tables/idempotency-key.ts'
import { auditedDatabase, somebody, type AuditedDatabase } from './support/audited-database.ts'

const dayMs = 86_400_000
let directory: string
let running: AuditedDatabase | null = null
beforeEach(async () => void (directory = await mkdtemp(join(tmpdir(), 'portolan-keys-'))))
afterEach(async () => {
  await running?.remove()
  await rm(directory, { recursive: true })
})

/** Stops what runs, and starts anew on the same data directory. */
async function restart(): Promise<AuditedDatabase> {
  await running?.remove()
  return (running = await auditedDatabase(directory))
}

let done = 0
/** A mutation that counts how often it was carried out. */
const send = (idempotencyKey: string, input: object = { migrationId: 'm' }) =>
  running!.idempotency.once(somebody, 'pauseMigration', { idempotencyKey, ...input }, (commit) =>
    commit(async () => ({ migrationId: `m${++done}` }), []),
  )

test('a key that was used before a restart answers as the first time after it', async () => {
  await restart()
  const first = await send('k')
  const count = done
  await restart()
  expect(await send('k')).toEqual(first)
  expect(done).toBe(count)
  await expect(send('k', { migrationId: 'another' })).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_REUSED' })
  expect(await running!.verify()).toEqual({ entries: 1, broken: null })
})

test('a token that was revoked since its request was let in changes nothing', async () => {
  const { database } = await restart()
  const token = { id: somebody.tokenId, name: 'n', role: somebody.role, hash: 'h', createdAt: new Date() }
  await database.write((orm) => [orm.insert(apiTokens).values(token)])
  await send('before')
  const count = done
  await database.write((orm) => [orm.update(apiTokens).set({ revokedAt: new Date() })])
  await expect(send('after')).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW', message: expect.stringContaining('revoked') as string })
  expect(done).toBe(count)
  expect((await database.select().from(idempotencyKeys)).map(({ key }) => key)).toEqual(['before'])
})

test('an answer is kept for seven days; later its key is refused, and the request is not carried out again', async () => {
  const { database } = await restart()
  await send('old')
  await send('young')
  const age = (key: string, days: number) =>
    database.transaction(async (tx) => {
      const [row] = (await tx.select().from(idempotencyKeys)).filter((known) => known.key === key)
      await tx.delete(idempotencyKeys)
      await tx.insert(idempotencyKeys).values({ ...row!, createdAt: new Date(Date.now() - days * dayMs) })
    })
  await age('young', 6.9)
  await send('another')
  const count = done
  expect(await send('young')).toBeDefined()
  expect(done).toBe(count)

  await age('young', 7.1)
  await send('one more')
  await restart()
  for (const key of ['old', 'young'])
    await expect(send(key)).rejects.toMatchObject({
      code: 'IDEMPOTENCY_KEY_REUSED',
      message: expect.stringContaining('no longer kept') as string,
    })
  expect(done).toBe(count + 1)
  expect((await running!.database.select().from(idempotencyKeys)).map(({ key }) => key)).toEqual(['one more'])
})
