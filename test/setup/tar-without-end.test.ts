import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { tarEnd, tarWithoutEnd } from '../../setup/tar-without-end.ts'

let directory: string
beforeEach(() => void (directory = mkdtempSync(join(tmpdir(), 'portolan-tar-'))))
afterEach(() => rmSync(directory, { recursive: true, force: true }))

test('archives compressed apart, one after the other, unpack as one with the tools that every guest has', async () => {
  writeFileSync(join(directory, 'node'), 'x'.repeat(5000))
  writeFileSync(join(directory, 'agent.mjs'), 'the agent')
  const parts = [
    gzipSync(await tarWithoutEnd(directory, ['node'])),
    gzipSync(Buffer.concat([await tarWithoutEnd(directory, ['agent.mjs']), tarEnd])),
  ]
  rmSync(join(directory, 'node'))
  rmSync(join(directory, 'agent.mjs'))
  execFileSync('sh', ['-c', 'gzip -d | tar xf -'], { cwd: directory, input: Buffer.concat(parts) })
  expect(readFileSync(join(directory, 'node'), 'utf8')).toBe('x'.repeat(5000))
  expect(readFileSync(join(directory, 'agent.mjs'), 'utf8')).toBe('the agent')
})
