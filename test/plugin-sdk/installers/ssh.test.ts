import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import ssh2 from 'ssh2'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { thawWatchdogScript } from '../../../src/agents/migration/thaw-watchdog.ts'
import { sshInstaller } from '../../../src/plugin-sdk/installers/ssh.ts'
import { newKey } from '../../support/ssh-server.ts'
import { type GuestOverSsh, startGuestOverSsh } from '../guest-over-ssh.ts'

const directory = '/run/portolan-agent'
const bootstrap = { path: '/etc/portolan/bootstrap.json', content: `{"token":"$(touch /run/pwned) '\\"; é"}`, mode: 0o644 }

let bundleDirectory: string
let otherBundle: string
let guest: GuestOverSsh

beforeAll(async () => {
  bundleDirectory = await mkdtemp(join(tmpdir(), 'portolan-bundle-'))
  await pack(bundleDirectory, {
    run: '#!/bin/sh\nexec ./node ./agent.sh "$@"\n',
    'agent.sh': 'echo "started $*"\ntrap "kill \\$!; exit" TERM\n./node -c "while :; do sleep 0.1; done" &\nwait\n',
  })
})
afterAll(() => rm(bundleDirectory, { recursive: true, force: true }))

beforeEach(async () => {
  otherBundle = await mkdtemp(join(tmpdir(), 'portolan-bundle-'))
  guest = await startGuestOverSsh()
})
afterEach(async () => {
  await guest.close()
  await rm(otherBundle, { recursive: true, force: true })
})

/** A shell stands in for Node, an ELF program that runs from the tmpfs, and `cat` for what unpacks it. */
async function pack(directory: string, files: Record<string, string>): Promise<void> {
  await mkdir(join(directory, 'unpack'))
  for (const name of ['node', 'node.zst']) await copyFile('/bin/sh', join(directory, name))
  for (const [name, text] of Object.entries({ 'unpack/run': '#!/bin/sh\nexec cat >"$1"\n', ...files }))
    await writeFile(join(directory, name), text, { mode: 0o755 })
  execFileSync('tar', ['cf', 'bundle.tar', 'unpack', ...Object.keys(files)], { cwd: directory })
}

const installer = () => sshInstaller({ access: () => Promise.resolve(guest.access) })
const install = (operationId = 'one') => installer().install({ operationId, vmId: 'vm', bundleDirectory, inject: [bootstrap] })
const uninstall = () => installer().uninstall({ operationId: 'un', vmId: 'vm' })
const nothingLeft = async () => {
  expect(await guest.look('ls -A /run')).toBe('')
  expect(await guest.look('grep -c portolan /proc/self/mounts')).toBe('0')
  expect(await guest.look('ps -eo args | grep -c "[.]/node"')).toBe('0')
}

describe('install', () => {
  test('starts the agent on a tmpfs of its own, with the injected files for root alone', async () => {
    await install()
    expect(await guest.look(`cat ${directory}/bootstrap.json`)).toBe(bootstrap.content)
    expect(await guest.look(`stat -c %a ${directory} ${directory}/bootstrap.json`)).toBe('700\n600')
    expect(await guest.look(`cat ${directory}/agent.log`)).toBe(`started SOURCE ${directory}/bootstrap.json`)
    expect(await guest.look(`grep -c "^portolan-agent ${directory} tmpfs" /proc/self/mounts`)).toBe('1')
    expect(await guest.look('ls -A /run')).toBe('portolan-agent')
    expect(await guest.look(`ls ${directory}`)).not.toContain('unpack')
  })

  test('sent twice happens once; a new operation replaces what an earlier one left', async () => {
    await install()
    const first = await guest.look(`cat ${directory}/process`)
    await install()
    expect(await guest.look(`cat ${directory}/process`)).toBe(first)
    await install('two')
    expect(await guest.look(`cat ${directory}/process`)).not.toBe(first)
    expect(await guest.look('ps -eo args | grep -c "[.]/node -c"')).toBe('1')
  })

  test('starts over where the agent has died since', async () => {
    await install()
    const first = await guest.look(`cat ${directory}/process`)
    await guest.look(`kill -9 ${first.split(' ')[0]}`)
    await install()
    expect(await guest.look(`cat ${directory}/process`)).not.toBe(first)
  })

  test('puts no secret and no input into a command', async () => {
    await install('$(touch /run/pwned)')
    expect(guest.commands.join()).not.toContain('pwned')
    expect(guest.commands.join()).not.toContain('token')
  })

  test('says what the agent printed when it does not stay up', async () => {
    await pack(otherBundle, { run: '#!/bin/sh\necho no libatomic >&2; exit 127\n' })
    const failing = installer().install({ operationId: 'one', vmId: 'vm', bundleDirectory: otherBundle, inject: [bootstrap] })
    await expect(failing).rejects.toMatchObject({ code: 'INTERNAL', message: expect.stringContaining('no libatomic') })
    await uninstall()
    await nothingLeft()
  })

  test('says so when Node does not unpack', async () => {
    await pack(otherBundle, { run: '', 'unpack/run': '#!/bin/sh\necho premature end >&2; exit 1\n' })
    const failing = installer().install({ operationId: 'one', vmId: 'vm', bundleDirectory: otherBundle, inject: [bootstrap] })
    await expect(failing).rejects.toMatchObject({ code: 'INTERNAL', message: expect.stringContaining('premature end') })
    await uninstall()
    await nothingLeft()
  })

  test.each([2, 3])('is cancelled in the middle, at command %i, and cleaned up after', async (command) => {
    const cancel = new AbortController()
    guest.onCommand = (count) => {
      if (count === command) cancel.abort()
      return true
    }
    const cancelled = installer().install({ operationId: 'one', vmId: 'vm', bundleDirectory, inject: [bootstrap], signal: cancel.signal })
    await expect(cancelled).rejects.toMatchObject({ code: 'CANCELLED' })
    await uninstall()
    await nothingLeft()
  })

  test('refuses a directory that is no bundle before it connects', async () => {
    const refused = installer().install({ operationId: 'one', vmId: 'vm', bundleDirectory: tmpdir(), inject: [] })
    await expect(refused).rejects.toMatchObject({ code: 'INTERNAL', message: expect.stringContaining('not an agent bundle') })
    expect(guest.commands).toEqual([])
  })
})

describe('inspect', () => {
  test('finds nothing in a guest that will do, and changes nothing', async () => {
    expect(await installer().inspect?.({ vmId: 'vm', bundleDirectory })).toEqual([])
    expect(await guest.look('ls -A /run')).toBe('')
  })

  test('lists everything that is wrong at once', async () => {
    await guest.close()
    guest = await startGuestOverSsh({
      prepare: `mount -n -t tmpfs none /mnt && printf 'MemAvailable: 20480 kB\\n' > /mnt/memory && printf 'nodev proc\\n' > /mnt/filesystems && mount -n --bind /mnt/memory /proc/meminfo && mount -n --bind /mnt/filesystems /proc/filesystems`,
    })
    const findings = await installer().inspect?.({ vmId: 'vm', bundleDirectory })
    expect(findings).toMatchObject([
      { code: 'GUEST_MEMORY', severity: 'BLOCKER' },
      { code: 'NO_TRACEFS', severity: 'WARNING' },
    ])
  })
})

describe('uninstall', () => {
  test('leaves nothing, with children of the agent still running, and may be repeated', async () => {
    await install()
    await uninstall()
    await nothingLeft()
    await uninstall()
  })

  test('has the watchdog of a freeze thaw and end, also where the agent has died since', async () => {
    await install()
    const files = `${directory}/freeze-0`
    await guest.look(`mkdir ${files}; echo 99999999999 >${files}/lease`)
    const script = thawWatchdogScript.replaceAll("'", "'\\''")
    const ended = guest.look(`sh -c '${script}' portolan-thaw ${files}; echo "ended with $?"`)
    await expect.poll(() => guest.look(`cat ${files}/result`), { timeout: 20_000 }).toBe('frozen')
    await guest.look(`read -r agent _ <${directory}/process && kill -9 "$agent"`)
    await uninstall()
    expect(await ended).toBe('ended with 0')
    expect(await guest.look('ps -eo args | grep -c "[p]ortolan-thaw"')).toBe('0')
    await nothingLeft()
  })

  test('does not end a freeze that the kernel is still making, which would leave the guest frozen, and says so', async () => {
    await install()
    const files = `${directory}/freeze-0`
    await guest.look(`mkdir ${files}; echo / >${files}/making`)
    await guest.look(`cd ${files}; (trap '' TERM; until [ -e written ]; do sleep 0.1; done; rm making) >/dev/null 2>&1 &`)
    await expect(uninstall()).rejects.toMatchObject({ retryable: true, message: expect.stringContaining('still freezing /') })
    expect(await guest.look(`cat ${files}/making`)).toBe('/')
    await guest.look(`touch ${files}/written`)
    await uninstall()
    await nothingLeft()
  })

  test('finds an agent whose record was lost', async () => {
    await install()
    await guest.look(`rm ${directory}/process`)
    await uninstall()
    await nothingLeft()
  })

  test('spares a process that has the recorded number but is another', async () => {
    await install()
    await guest.look(`echo "1 123" > ${directory}/process`)
    await uninstall()
    await nothingLeft()
    expect(await guest.look('ps -p 1 -o comm=')).toBe('sleep')
  })
})

describe('a guest that will not do', () => {
  test.each([['too little memory', '/proc/meminfo', 'MemAvailable: 20480 kB\\n', 'INSUFFICIENT_CAPACITY', '20 MiB']])(
    '%s is refused before anything is written',
    async (_, path, content, code, text) => {
      await guest.close()
      guest = await startGuestOverSsh({
        prepare: `mount -n -t tmpfs none /mnt && printf '${content}' > /mnt/file && mount -n --bind /mnt/file ${path}`,
      })
      await expect(install()).rejects.toMatchObject({ code, message: expect.stringContaining(text) })
      expect(await guest.look('ls -A /run')).toBe('')
    },
  )

  test.each([
    ['another architecture', 'uname', 'echo armv7l', 'armv7l'],
    ['an old kernel', 'uname', 'case $1 in -r) echo 3.10.0-1160.el7;; *) echo x86_64;; esac', '3.10.0-1160'],
  ])('%s is UNSUPPORTED', async (_, tool, script, text) => {
    await pack(otherBundle, { run: '' })
    await guest.close()
    guest = await startGuestOverSsh({
      prepare: `mount -n -t tmpfs none /mnt && printf '#!/bin/sh\\n${script}\\n' > /mnt/tool && chmod 755 /mnt/tool && mount -n --bind /mnt/tool $(command -v ${tool})`,
    })
    const refused = installer().install({ operationId: 'one', vmId: 'vm', bundleDirectory: otherBundle, inject: [] })
    await expect(refused).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining(text) })
  })
})

describe('the connection', () => {
  test('is refused where the host key is another one, before anything is sent', async () => {
    guest.access.hostKeys = [newKey().public]
    await expect(uninstall()).rejects.toMatchObject({ code: 'UNAUTHORIZED', retryable: false, path: ['guestAccess', 'hostKeys'] })
    guest.access.hostKeys = [ssh2.utils.generateKeyPairSync('ecdsa', { bits: 256 }).public]
    await expect(uninstall()).rejects.toMatchObject({ code: 'UNAUTHORIZED', path: ['guestAccess', 'hostKeys'] })
    expect(guest.commands).toEqual([])
  })

  test('accepts any of several host keys', async () => {
    guest.access.hostKeys = [newKey().public, ...guest.access.hostKeys]
    await uninstall()
  })

  test('names a refused key, an unusable one, and a broken host key', async () => {
    const { privateKey } = guest.access
    guest.access.privateKey = newKey().private
    await expect(uninstall()).rejects.toMatchObject({ code: 'UNAUTHORIZED', path: ['guestAccess', 'privateKey'] })
    guest.access.privateKey = 'PRIVATE KEY'
    await expect(uninstall()).rejects.toMatchObject({ code: 'INVALID_OPTIONS', path: ['guestAccess', 'privateKey'] })
    guest.access.privateKey = privateKey
    guest.access.hostKeys = ['ssh-ed25519 nonsense']
    await expect(uninstall()).rejects.toMatchObject({ code: 'INVALID_OPTIONS', path: ['guestAccess', 'hostKeys'] })
  })

  test('is UNREACHABLE, and worth a retry, where nobody listens', async () => {
    await guest.close()
    await expect(uninstall()).rejects.toMatchObject({ code: 'UNREACHABLE', retryable: true })
  })

  test('is closed also where the guest stands still by then, and never says goodbye', async () => {
    const { endpoint } = guest.access
    const ways: Socket[] = []
    const standsStill = createServer({ allowHalfOpen: true }, (client) => {
      const server = connect(endpoint)
      server.pipe(client, { end: false })
      client.pipe(server, { end: false })
      client.on('error', () => {}) // it is cut
      ways.push(client, server)
    })
    await once(standsStill.listen(0, '127.0.0.1'), 'listening')
    guest.access.endpoint = { host: '127.0.0.1', port: (standsStill.address() as AddressInfo).port }
    await uninstall()
    for (const way of ways) way.destroy()
    standsStill.close()
  })

  test('can be cancelled while the guest does not answer', async () => {
    const cancel = new AbortController()
    guest.onCommand = () => {
      setImmediate(() => cancel.abort())
      return false
    }
    await expect(installer().uninstall({ operationId: 'un', vmId: 'vm', signal: cancel.signal })).rejects.toMatchObject({
      code: 'CANCELLED',
    })
  })
})
