import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'

const bootstrap = resolve(import.meta.dirname, '../../setup/bootstrap.mjs')
let path: string

/** A machine without libatomic, which our Node needs, and with these commands only. */
beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), 'portolan-path-'))
  await symlink('/bin/sh', join(path, 'sh'))
  await command('ldconfig', 'echo "1 libs found in cache"')
})
afterEach(() => rm(path, { recursive: true, force: true }))

const command = (name: string, script: string) => writeFile(join(path, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
const run = () => spawnSync(process.execPath, [bootstrap, 'setup/setup.ts'], { env: { PATH: path }, encoding: 'utf8' })

test('where there is no apt-get, one sentence lists everything to install, before anything is', () => {
  const { status, stderr } = run()
  expect(status).toBe(1)
  expect(stderr).toMatch(/^portolan: This machine has no apt-get: install what Debian calls libatomic1, qemu-system-x86, [^.]*\.\n$/)
})

test('where the package can not be installed, apt-get has the last word', async () => {
  await command('apt-get', 'echo "E: no room" >&2; exit 100')
  await command('env', 'shift; exec "$@"')
  await command('sudo', 'exec "$@"')
  const { status, stderr } = run()
  expect(status).toBe(1)
  expect(stderr).toContain('E: no room')
  expect(stderr).toContain('run the same command again')
})
