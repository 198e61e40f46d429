/** kill -9 of the control plane at one write after the other while it runs a group: after each restart it goes on by itself, to the same end. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { randomNumbers } from '../support/random-numbers.ts'

const program = fileURLToPath(new URL('./support/killed-group-control-plane.ts', import.meta.url))
let dataDirectory: string
const running = new Set<ReturnType<typeof spawn>>()

beforeEach(async () => {
  dataDirectory = await mkdtemp(join(tmpdir(), 'portolan-group-kill-'))
})
afterEach(async () => {
  for (const child of running) {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  await rm(dataDirectory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
})

/** One life of the control plane: what it printed, empty when it was killed before the end. */
async function live(fatalWrite: number, when: 'before' | 'after'): Promise<string> {
  const child = spawn(process.execPath, [program, dataDirectory, `${fatalWrite}`, when])
  running.add(child)
  let output = ''
  let errors = ''
  child.stdout.on('data', (text: Buffer) => (output += text.toString()))
  child.stderr.on('data', (text: Buffer) => (errors += text.toString()))
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  running.delete(child)
  if (code !== 0 && signal !== 'SIGKILL') throw new Error(`The control plane ended with code ${code}: ${errors.slice(-4000)}`)
  return output
}

test('a group whose control plane is killed again and again', { timeout: 300_000 }, async () => {
  const random = randomNumbers()
  let output = ''
  let lives = 0
  for (; output === ''; lives++) output = await live(lives < 5 ? 4 + random.below(25) : 0, random.of(['before', 'after'] as const))
  expect(lives, `seed ${random.seed}`).toBeGreaterThan(3)
  expect(JSON.parse(output), `seed ${random.seed}`).toEqual({
    state: 'FAILED',
    states: { m0: 'COMPLETED', m1: 'COMPLETED', m2: 'COMPLETED', m3: 'COMPLETED', m4: 'FAILED', m5: 'STOPPED_BY_DEPENDENCY' },
    startedTwice: 0,
  })
  const told = (await readFile(join(dataDirectory, 'told'), 'utf8')).trim().split('\n')
  const [zero, one, two, three] = [0, 1, 2, 3].map((machine) => told.indexOf(`cut over ${machine}`))
  expect(two).toBeGreaterThan(Math.max(zero!, one!))
  expect(three).toBeGreaterThan(two!)
  expect(told).not.toContain('cut over 5')
})
