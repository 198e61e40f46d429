/** The demo as a person starts it; only the private network is the tests'. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import type { DemoResult } from '../../src/cli/demo-report.ts'

const root = resolve(import.meta.dirname, '../..')
const sites = async () => (await readdir(tmpdir())).filter((name) => name.startsWith('portolan-site-'))

test('`npm run demo -- --fault source-host`: a source host dies in mid-switchover, the verdict with its evidence, the recovery', async () => {
  const before = await sites()
  const demo = spawn(process.execPath, [join(root, 'src/cli/demo.ts'), '--fault', 'source-host', '--json'], { cwd: root })
  const [output, complaints, [exitCode]] = await Promise.all([text(demo.stdout), text(demo.stderr), once(demo, 'exit')])
  expect(exitCode, `${output}\n${complaints}`).toBe(0)

  const story = [
    'FAULT: the host of the source loses its power',
    "the destination serves; the migration waits for the source's site",
    'VERDICT: MIGRATED (',
    'evidence, destination:',
    'evidence, source:',
    'safe now:',
    'RECOVERY: the host is back',
    'The VM moved from',
    'cleaning up',
  ]
  const told = story.map((part) => output.indexOf(part))
  expect(told).not.toContain(-1)
  expect(told).toEqual(told.toSorted((one, other) => one - other))

  const result = JSON.parse(output.trimEnd().split('\n').at(-1)!) as DemoResult & { elapsedMs: number }
  expect(result).toMatchObject({ verified: true, recordsFound: result.recordsAcknowledged })
  expect(result.recordsAcknowledged).toBeGreaterThan(0)
  expect(result.elapsedMs).toBeGreaterThan(result.durationMs)
  expect(await sites()).toEqual(before)
})
