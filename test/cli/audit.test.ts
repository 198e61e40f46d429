import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { auditedDatabase, type AuditedDatabase } from '../workflows/support/audited-database.ts'

const program = fileURLToPath(new URL('../../src/cli/audit.ts', import.meta.url))
let trail: AuditedDatabase
beforeEach(async () => void (trail = await auditedDatabase()))
afterEach(() => trail.remove())

async function audit(...words: string[]): Promise<{ code: number; said: string }> {
  const child = spawn(process.execPath, [program, ...words], { env: { PATH: process.env['PATH'] } })
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

test('anything but verify is answered with the usage, and a configuration that is not there with a sentence', async () => {
  expect(await audit('repair')).toMatchObject({ code: 2, said: expect.stringContaining('usage: ') as string })
  expect(await audit('verify', '--config', '/nowhere/portolan.config.json')).toMatchObject({
    code: 2,
    said: expect.stringContaining('/nowhere') as string,
  })
})
