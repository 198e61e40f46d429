import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'

const guardModule = resolve(import.meta.dirname, '../../src/agents/migration/tracing-guard.ts')
let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'portolan-tracing-guard-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

/** By what it was started with. */
const guardsOf = (instance: string) =>
  readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && readCommand(pid).startsWith('sh\0') && readCommand(pid).includes(instance))
const readCommand = (pid: string) => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}
/** Page faults of the programs that it started and that have ended: field 11 of /proc/<pid>/stat (proc(5)). */
const faultsOfChildren = (pid: string) => Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[8])

test('what a killed agent leaves in tracefs is removed at once, and its guard starts nothing while the agent lives', async () => {
  const instance = join(directory, 'instance')
  mkdirSync(instance)
  const agent = spawn(process.execPath, [
    '--input-type=module',
    '-e',
    `const { guardTracing } = await import(${JSON.stringify(guardModule)}); guardTracing(${JSON.stringify(instance)}, null); setInterval(() => {}, 1e6)`,
  ])
  const [guard = ''] = await vi.waitFor(() => {
    const guards = guardsOf(instance)
    expect(guards).toHaveLength(1)
    return guards
  }, 20_000)
  await delay(1_500)
  expect(faultsOfChildren(guard)).toBe(0)
  expect(existsSync(instance)).toBe(true)
  agent.kill('SIGKILL')
  await once(agent, 'exit')
  await vi.waitFor(() => expect(existsSync(instance)).toBe(false), 20_000)
  await vi.waitFor(() => expect(guardsOf(instance)).toEqual([]), 20_000)
})

test('an agent that has nothing more to do ends though its guard waits for that', async () => {
  const agent = spawn(process.execPath, [
    '--input-type=module',
    '-e',
    `const { guardTracing } = await import(${JSON.stringify(guardModule)}); guardTracing(${JSON.stringify(join(directory, 'none'))}, null)`,
  ])
  expect(await once(agent, 'exit')).toEqual([0, null])
})
