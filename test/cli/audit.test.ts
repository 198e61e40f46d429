import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { auditedDatabase, type AuditedDatabase } from '../workflows/support/audited-database.ts'

const program = fileURLToPath(new URL('../../src/cli/audit.ts', import.meta.url))
let trail: AuditedDatabase
let environment: Record<string, string>
beforeEach(async () => {
  environment = {}
  trail = await auditedDatabase()
})
afterEach(() => trail.remove())

async function audit(...words: string[]): Promise<{ code: number; said: string }> {
  const child = spawn(process.execPath, [program, ...words], { env: { PATH: process.env['PATH'], ...environment } })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (said += text))
  const [code] = (await once(child, 'close')) as [number]
  return { code, said }
}

test('a sound trail is said to be one, while a control plane has it open', async () => {
  await trail.fill(3)
  expect(await audit('verify', '--config', trail.configuration)).toEqual({
    code: 0,
    said: 'audit: all 3 entries are as they were written.\n',
  })
})

test('the first broken entry is named, and the exit code is not zero', async () => {
  await trail.fill(3)
  await trail.tamper("UPDATE audit_entries SET outcome = 'REFUSED' WHERE sequence = 2")
  expect(await audit('verify', '--config', trail.configuration)).toEqual({
    code: 1,
    said: 'audit: entry 2 is broken: its content is not what its hash was made of. The 1 entries before it are sound.\n',
  })
})

test('where there is no database nothing is verified, and nothing is made', async () => {
  await trail.database.close()
  const files = ['portolan.db', 'portolan.db-wal', 'portolan.db-shm', 'seal.key', 'audit-head.json']
  for (const file of files) await rm(join(trail.directory, file), { force: true })
  expect(await audit('verify', '--config', trail.configuration)).toEqual({
    code: 2,
    said: `audit: there is no database ${join(trail.directory, 'portolan.db')}, and DATABASE_URL is not set, so there is no audit trail to look through.\n`,
  })
  expect(await readdir(trail.directory)).toEqual(['portolan.config.json'])
})

test('a database elsewhere is not judged with a seal key made for it', async () => {
  await trail.fill(1)
  environment = { DATABASE_URL: pathToFileURL(join(trail.directory, 'portolan.db')).href }
  await mkdir(join(trail.directory, 'elsewhere'))
  const configuration = join(trail.directory, 'elsewhere', 'portolan.config.json')
  await copyFile(trail.configuration, configuration)
  expect(await audit('verify', '--config', configuration)).toMatchObject({
    code: 2,
    said: expect.stringContaining('there is no seal key') as string,
  })
  expect(await readdir(join(trail.directory, 'elsewhere'))).toEqual(['portolan.config.json'])
})

test('an empty trail is no sound one, since the first start of a control plane writes an entry', async () => {
  expect(await audit('verify', '--config', trail.configuration)).toMatchObject({
    code: 2,
    said: expect.stringContaining('the audit trail is empty') as string,
  })
})

test('anything but verify is answered with the usage, and a configuration that is not there with a sentence', async () => {
  expect(await audit('repair')).toMatchObject({ code: 2, said: expect.stringContaining('usage: ') as string })
  expect(await audit('verify', '--config', '/nowhere/portolan.config.json')).toMatchObject({
    code: 2,
    said: expect.stringContaining('/nowhere') as string,
  })
})
