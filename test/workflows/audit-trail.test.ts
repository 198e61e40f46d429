import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { getTableColumns } from 'drizzle-orm'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { auditEntries, auditHead } from '../../src/database/tables/audit.ts'
import { PortolanError } from '../../src/domain/errors.ts'
import { auditWitnessPath } from '../../src/workflows/audit-witness.ts'
import { auditedDatabase, somebody, type AuditedDatabase } from './support/audited-database.ts'

let trail: AuditedDatabase
beforeEach(async () => void (trail = await auditedDatabase()))
afterEach(() => trail.remove())

const entries = () => trail.database.select().from(auditEntries).orderBy(auditEntries.sequence)

test('a mutation and its entry are there together or not at all', async () => {
  await trail.fill(1)
  const attempt = trail.idempotency.once(somebody, 'pauseMigration', { idempotencyKey: 'failing' }, (commit) =>
    commit(async () => {
      throw new PortolanError('NOT_ALLOWED_NOW', 'It has ended.', { retryable: false, remedy: '-' })
    }, []),
  )
  await expect(attempt).rejects.toMatchObject({ code: 'NOT_ALLOWED_NOW' })
  expect(await entries()).toMatchObject([
    { sequence: 1, mutation: 'pauseMigration', subjectType: 'Migration', subjectId: 'm1', outcome: 'DONE', answer: '{"migrationId":"m1"}' },
  ])
  expect(await trail.verify()).toEqual({ entries: 1, broken: null })
})

test('an attempt that fails is written down with its code, and nothing of its message', async () => {
  const refused = new PortolanError('CONFLICT', 'hunter2 is in here', { retryable: false, remedy: '-' })
  const input = {
    idempotencyKey: 'k',
    options: { anything: 'hunter2' },
    hook: { url: 'https://u:hunter2@hooks.example/hunter2?x=hunter2' },
  }
  await expect(trail.audit.attempt({ actor: somebody, mutation: 'connectCloud', input }, () => Promise.reject(refused))).rejects.toBe(
    refused,
  )
  const [entry] = await entries()
  expect(entry).toMatchObject({ outcome: 'REFUSED', errorCode: 'CONFLICT', tokenId: 'token-1', role: 'OPERATOR', answer: null })
  expect(JSON.parse(entry!.input)).toEqual({ idempotencyKey: 'k', options: '[withheld]', hook: { url: 'https://hooks.example' } })
  expect(JSON.stringify(entry)).not.toContain('hunter2')
})

test('a repeated mutation is said to be one', async () => {
  const send = () =>
    trail.audit.attempt({ actor: somebody, mutation: 'pauseMigration', input: { idempotencyKey: 'k' } }, () =>
      trail.idempotency.once(somebody, 'pauseMigration', { idempotencyKey: 'k' }, (commit) =>
        commit(async () => ({ migrationId: 'm' }), []),
      ),
    )
  expect(await send()).toEqual(await send())
  expect((await entries()).map(({ outcome }) => outcome)).toEqual(['DONE', 'REPEATED'])
})

test('the database itself refuses to change, delete, replace or slip in an entry', async () => {
  await trail.fill(2)
  const [, last] = await entries()
  const values = { ...last!, id: 'another', hash: 'f'.repeat(64) }
  const refused = { cause: expect.objectContaining({ message: expect.stringContaining('only ever added to') as string }) as unknown }
  await expect(trail.database.write((orm) => [orm.update(auditEntries).set({ mutation: 'x' })])).rejects.toMatchObject(refused)
  await expect(trail.database.write((orm) => [orm.delete(auditEntries)])).rejects.toMatchObject(refused)
  await expect(trail.database.write((orm) => [orm.delete(auditHead)])).rejects.toMatchObject(refused)
  await expect(trail.database.write((orm) => [orm.update(auditHead).set({ sequence: 1 })])).rejects.toMatchObject(refused)
  await expect(trail.database.write((orm) => [orm.insert(auditEntries).values(values)])).rejects.toMatchObject(refused)
  await expect(
    trail.database.write((orm) => [orm.insert(auditEntries).values({ ...values, sequence: 3, previousHash: '0'.repeat(64) })]),
  ).rejects.toMatchObject(refused)
  expect(await trail.verify()).toEqual({ entries: 2, broken: null })
})

test.for(Object.keys(getTableColumns(auditEntries)))('a changed %s is found, at its entry', async (column) => {
  await trail.fill(5)
  const value = column === 'sequence' || column === 'at' ? `${column} + 1000` : `coalesce(${column}, '') || '0'`
  await trail.tamper(`UPDATE audit_entries SET ${column} = ${value} WHERE sequence = 3`)
  expect(await trail.verify()).toMatchObject({ entries: 2, broken: { sequence: 3 } })
})

test('a deleted entry is found', async () => {
  await trail.fill(5)
  await trail.tamper('DELETE FROM audit_entries WHERE sequence = 2')
  expect(await trail.verify()).toEqual({ entries: 1, broken: { sequence: 2, problem: 'it is missing; the next one that is there is 3' } })
})

test('a deleted entry is found, also when those after it move up', async () => {
  await trail.fill(5)
  await trail.tamper('DELETE FROM audit_entries WHERE sequence = 2', 'UPDATE audit_entries SET sequence = sequence - 1 WHERE sequence > 2')
  expect(await trail.verify()).toMatchObject({ entries: 1, broken: { sequence: 2 } })
})

test('two entries that changed places are found', async () => {
  await trail.fill(4)
  await trail.tamper(
    'UPDATE audit_entries SET sequence = -2 WHERE sequence = 2',
    'UPDATE audit_entries SET sequence = 2 WHERE sequence = 3',
    'UPDATE audit_entries SET sequence = 3 WHERE sequence = -2',
  )
  expect(await trail.verify()).toMatchObject({ entries: 1, broken: { sequence: 2 } })
})

test.for([1, 3, 5])('a tail of %i that was cut off is found', async (length) => {
  await trail.fill(5)
  await trail.tamper(`DELETE FROM audit_entries WHERE sequence > ${5 - length}`)
  expect(await trail.verify()).toMatchObject({ entries: 5 - length, broken: { sequence: 6 - length } })
})

test('an end that was rewritten without the seal key is found', async () => {
  await trail.fill(5)
  await trail.tamper(
    'DELETE FROM audit_entries WHERE sequence > 3',
    'UPDATE audit_head SET sequence = 3, hash = (SELECT hash FROM audit_entries WHERE sequence = 3)',
  )
  expect(await trail.verify()).toMatchObject({ broken: { sequence: 3, problem: 'the end of the trail is not signed with the seal key' } })
})

test('a database that was put back to an older state is found by the witness, which what comes later does not overwrite', async () => {
  await trail.fill(2)
  await trail.database.close()
  const older = join(trail.directory, 'older')
  await copyDatabase(trail.directory, older)
  trail = await auditedDatabase(trail.directory)
  await trail.idempotency.once(somebody, 'cancelMigration', { idempotencyKey: 'hidden' }, (commit) =>
    commit(async () => ({ migrationId: 'm' }), []),
  )
  await trail.database.close()
  await copyDatabase(older, trail.directory)
  trail = await auditedDatabase(trail.directory)
  expect(await trail.verify()).toMatchObject({
    entries: 2,
    broken: { sequence: 3, problem: 'the trail ends here, and was written up to entry 3' },
  })

  for (const key of ['three', 'four'])
    await trail.idempotency.once(somebody, 'pauseMigration', { idempotencyKey: key }, (commit) =>
      commit(async () => ({ migrationId: 'm' }), []),
    )
  expect(trail.problems.length).toBeGreaterThan(0)
  expect(await trail.verify()).toMatchObject({
    broken: { sequence: 3, problem: "it is not the entry that this control plane's witness saw" },
  })

  await rm(auditWitnessPath(trail.directory))
  expect(await trail.verify()).toEqual({ entries: 4, broken: null })
  await trail.remove()
  await rm(trail.directory, { recursive: true })
  trail = await auditedDatabase()
})

test('two control planes on one database write one chain', async () => {
  const program = fileURLToPath(new URL('./support/audit-writer.ts', import.meta.url))
  const writers = ['one', 'two'].map((prefix) => spawn(process.execPath, [program, trail.directory, '12', prefix]))
  const said = writers.map(({ stdout }) => text(stdout))
  await Promise.all(writers.map(({ stderr }) => once(stderr, 'data')))
  for (const { stdin } of writers) stdin.end()
  expect(await Promise.all(said)).toEqual(['', ''])
  expect(await trail.verify()).toEqual({ entries: 24, broken: null })
  const written = (await entries()).map(({ subjectId }) => subjectId)
  expect([written.filter((prefix) => prefix === 'one').length, written.filter((prefix) => prefix === 'two').length]).toEqual([12, 12])
})

/** With what is still in its log. */
async function copyDatabase(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true })
  const names = async (directory: string) => (await readdir(directory)).filter((name) => name.startsWith('portolan.db'))
  for (const name of await names(to)) await rm(join(to, name))
  for (const name of await names(from)) await cp(join(from, name), join(to, name))
}
