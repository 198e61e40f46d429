import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { withSetUpLock } from '../../setup/set-up-lock.ts'

const silent = () => {}
let cache: string
beforeEach(() => void (cache = mkdtempSync(join(tmpdir(), 'portolan-lock-'))))
afterEach(() => rmSync(cache, { recursive: true, force: true }))

test('two set-ups in one cache take turns, and the second says that it waits', async () => {
  const story: string[] = []
  let finish = () => {}
  const first = withSetUpLock(cache, silent, async () => {
    story.push('first begins')
    await new Promise<void>((done) => (finish = done))
    story.push('first ends')
  })
  await expect.poll(() => story).toEqual(['first begins'])
  const second = withSetUpLock(
    cache,
    (line) => {
      story.push(line)
      finish()
    },
    async () => void story.push('second begins'),
  )
  await Promise.all([first, second])
  expect(story).toEqual(['first begins', `another set-up is working in ${cache}: waiting for it`, 'first ends', 'second begins'])
})

test('the lock is free again after a failure', async () => {
  await expect(withSetUpLock(cache, silent, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken')
  await expect(withSetUpLock(cache, silent, async () => 'worked')).resolves.toBe('worked')
})

test('a set-up that was killed holds nothing', async () => {
  const module = resolve(import.meta.dirname, '../../setup/set-up-lock.ts')
  const program = `import(${JSON.stringify(module)}).then(({ withSetUpLock }) =>
    withSetUpLock(${JSON.stringify(cache)}, () => {}, () => new Promise(() => { console.log('held'); setInterval(() => {}, 1000) })))`
  const holder = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  await new Promise((held, failed) => {
    holder.stdout.once('data', held)
    holder.once('exit', (code) => failed(new Error(`the holder ended with ${code}`)))
  })
  holder.kill('SIGKILL')
  await expect(withSetUpLock(cache, silent, async () => 'worked')).resolves.toBe('worked')
})
