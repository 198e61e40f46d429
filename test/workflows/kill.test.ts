/** kill -9 of the control plane, of the engine, or of both, once in each phase of one migration: after each restart it goes on by itself. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { phaseLists } from '../../src/workflows/phase-lists.ts'
import { rotating } from '../support/rotating.ts'
import type { WorldState } from './support/fake-world.ts'

const program = fileURLToPath(new URL('./support/killed-control-plane.ts', import.meta.url))
const phases = phaseLists[2]!.map(({ name }) => name)

let dataDirectory: string
let health: Server
const running = new Set<ReturnType<typeof spawn>>()

beforeEach(async () => {
  dataDirectory = await mkdtemp(join(tmpdir(), 'portolan-kill-'))
  health = createServer((_request, response) => response.end())
  await new Promise<void>((ready) => health.listen(0, '127.0.0.1', ready))
})
afterEach(async () => {
  for (const child of running) {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  health.closeAllConnections()
  health.close()
  await rm(dataDirectory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
})

/** One life of the control plane: what it printed, empty when it was killed before the end. */
async function live(victim: string): Promise<string> {
  const child = spawn(process.execPath, [program, dataDirectory, String((health.address() as AddressInfo).port), victim])
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

test.each(rotating(['control-plane', 'engine', 'both']))('%s killed in each phase', { timeout: 600_000 }, async (victim) => {
  let output = ''
  let lives = 0
  while (output === '' && lives <= phases.length) {
    output = await live(victim)
    lives++
  }
  expect(JSON.parse(output)).toMatchObject({ migrations: 1, state: 'COMPLETED', error: null })
  expect((await readFile(join(dataDirectory, 'killed'), 'utf8')).trim().split('\n').toSorted()).toEqual(phases.toSorted())
  const world = JSON.parse(await readFile(join(dataDirectory, 'world.json'), 'utf8')) as WorldState
  expect(world.violations).toEqual([])
  expect(world.source.power).toBe('STOPPED')
  expect(Object.values(world.machines)).toEqual([expect.objectContaining({ power: 'RUNNING', exposed: true, content: world.content })])
  expect(lives).toBe(victim === 'engine' ? 1 : phases.length + 1)
})
