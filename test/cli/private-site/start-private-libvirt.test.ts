import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startPrivateLibvirt } from '../../../src/cli/private-site/start-private-libvirt.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-site-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

test('two run side by side, and what is stopped leaves neither process nor bridge', async () => {
  const sites = await Promise.all(['a', 'b'].map((name) => startPrivateLibvirt({ directory: join(directory, name) })))
  expect(new Set(sites.map(({ uri }) => uri)).size).toBe(2)
  expect((await processesOf(directory)).length).toBeGreaterThan(2)
  // Other tests may make bridges of theirs at the same time.
  const bridges = await Promise.all(['a', 'b'].map((name) => bridgeOf(join(directory, name))))
  const interfaces = () => readFile('/proc/net/dev', 'utf8')
  for (const bridge of bridges) expect(await interfaces()).toContain(bridge)
  for (const site of sites) await site.stop()
  await expect.poll(() => processesOf(directory), { timeout: 10_000 }).toEqual([])
  for (const bridge of bridges) expect(await interfaces()).not.toContain(bridge)
})

test('when its owner is killed, everything ends', async () => {
  const owner = spawn(process.execPath, [resolve(import.meta.dirname, 'site-owner.ts'), directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(owner.stdout, 'data')
  expect((await processesOf(directory)).length).toBeGreaterThan(1)
  owner.kill('SIGKILL')
  await once(owner, 'exit')
  await expect.poll(() => processesOf(directory), { timeout: 10_000 }).toEqual([])
})

test('a directory whose socket would have too long a name is refused before anything starts', async () => {
  await expect(startPrivateLibvirt({ directory: join(directory, 'x'.repeat(100)) })).rejects.toThrow('Choose a shorter directory')
  expect(await readdir(directory)).toEqual([])
})

async function bridgeOf(site: string): Promise<string> {
  return /bridge name='([^']+)'/.exec(await readFile(join(site, 'network.xml'), 'utf8'))?.[1] ?? ''
}

/** Command lines of all processes that name the directory. */
async function processesOf(path: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))
  return lines.filter((line) => line.includes(path))
}
