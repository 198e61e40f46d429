/** The agent's bundle in a guest that has a kernel, a static busybox and not one library: what it needs above the kernel comes with it. */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { artifacts } from '../../setup/artifacts.ts'
import { extractFromTree } from '../../setup/extract-from-tree.ts'

let guest: string

beforeAll(async () => {
  guest = await mkdtemp(join(tmpdir(), 'portolan-without-libc-'))
  const { cacheDirectory, agentBundleDirectory } = artifacts()
  await extractFromTree(join(cacheDirectory, 'guest-tree'), ['usr/bin/busybox'], guest)
  for (const directory of ['proc', 'bundle', 'bin']) await mkdir(join(guest, directory))
  for (const tool of ['sh', 'grep', 'tar', 'cat']) await symlink('/usr/bin/busybox', join(guest, 'bin', tool))
  await inGuest('cd /bundle && tar xf -', join(agentBundleDirectory, 'bundle.tar'))
  await inGuest('cd /bundle && ./unpack/run node', join(agentBundleDirectory, 'node.zst'))
})
afterAll(() => rm(guest, { recursive: true, force: true }))

/** Runs a script there, in namespaces of its own; `input` is a file of this machine. */
async function inGuest(script: string, input = '/dev/null') {
  const enter = 'mount -t proc proc "$1/proc" && exec chroot "$1" /bin/sh -c "$2" <"$3"'
  // Root needs no user namespace, which a chroot couldn't make.
  const namespaces = [process.getuid?.() === 0 ? '-mpf' : '-Urmpf', '--kill-child', 'sh', '-c', enter, 'sh', guest, script, input]
  return promisify(execFile)('unshare', namespaces, { timeout: 60_000, env: { PATH: process.env['PATH'], LC_ALL: 'C' } })
}

test('the agent starts', async () => {
  await expect(inGuest('/bundle/run SOURCE')).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringContaining('Usage: agent.mjs <SOURCE|DESTINATION> <bootstrap.json>'),
  })
})

test('its Node has all it needs, and leaves the programs of the guest their own libraries', async () => {
  const program = `
    import { execFileSync, spawnSync } from 'node:child_process'
    import { randomBytes } from 'node:crypto'
    import { lookup } from 'node:dns/promises'
    import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
    const content = randomBytes(100_000)
    const library = (name) => import.meta.dirname + '/lib/' + name
    console.log(JSON.stringify({
      zstd: zstdDecompressSync(zstdCompressSync(content)).equals(content),
      address: (await lookup('127.0.0.1')).address,
      child: execFileSync('sh', ['-c', 'echo "preloaded: $LD_LIBRARY_PATH"']).toString(),
      extents: spawnSync(library('ld-linux-x86-64.so.2'), ['--library-path', library(''), library('filefrag'), '/usr/bin/busybox']).output.join(''),
    }))`
  await writeFile(join(guest, 'bundle', 'agent.mjs'), program)
  expect(JSON.parse((await inGuest('/bundle/run')).stdout)).toEqual({
    zstd: true,
    address: '127.0.0.1',
    child: 'preloaded: \n',
    // A file system in RAM, as /tmp may be, has no extents to tell of; that it says so shows that the program runs.
    extents: expect.stringMatching(/busybox: (\d+ extents? found|FIBMAP\/FIEMAP unsupported)/),
  })
})
