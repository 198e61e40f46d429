import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { withLock } from '../../../plugins/qemu/machine-lock.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-lock-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

test('one at a time, and a failure lets go', async () => {
  const path = join(directory, 'lock')
  let inside = 0
  let most = 0
  const work = async () => {
    most = Math.max(most, ++inside)
    await new Promise((done) => setTimeout(done, 5))
    inside--
  }
  await expect(
    withLock(path, undefined, async () => {
      throw new Error('work failed')
    }),
  ).rejects.toThrow('work failed')
  await Promise.all([1, 2, 3, 4].map(() => withLock(path, undefined, work)))
  expect(most).toBe(1)
})

test('a process that is killed holds it no more', async () => {
  const path = join(directory, 'lock')
  const lockModule = resolve(import.meta.dirname, '../../../plugins/qemu/machine-lock.ts')
  const script = `const { withLock } = await import(${JSON.stringify(lockModule)})
    await withLock(${JSON.stringify(path)}, undefined, () => { console.log('held'); return new Promise((done) => setTimeout(done, 600_000)) })`
  const holder = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    await once(holder.stdout, 'data')
    holder.kill('SIGKILL')
    expect(await withLock(path, undefined, async () => 'ours')).toBe('ours')
  } finally {
    holder.kill('SIGKILL')
  }
})

test('a wait that is cancelled ends, and takes nothing', async () => {
  const path = join(directory, 'lock')
  await withLock(path, undefined, async () => {
    const abort = new AbortController()
    const waiting = withLock(path, abort.signal, async () => 'never')
    abort.abort()
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' })
  })
  expect(await withLock(path, undefined, async () => 'free')).toBe('free')
})
