/** Freezing for real: an ext4 on a loop device, mounted in a temporary directory. A write that hangs is what a freeze looks like from outside. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createFreezer, type Freezer } from '../../src/agents/migration/freezer.ts'
import { attachLoop, detachLoop, type LoopDisk } from './agent-pair.ts'

let directory: string
let mountPoint: string
let loop: LoopDisk
let freezer: Freezer

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'portolan-freeze-'))
  mountPoint = join(directory, 'mounted here')
  mkdirSync(mountPoint)
  const image = join(directory, 'disk.img')
  closeSync(openSync(image, 'w'))
  truncateSync(image, 32 * 1024 * 1024)
  loop = attachLoop(image)
  execFileSync('mkfs.ext4', ['-q', loop.path])
  execFileSync('mount', [loop.path, mountPoint])
  freezer = createFreezer(join(directory, 'agent'))
})
afterEach(async () => {
  for (const freezeId of ['f', 'another']) await freezer.thaw(freezeId)
  execFileSync('sh', ['-c', 'fsfreeze --unfreeze "$1" 2>/dev/null; umount "$1"', 'sh', mountPoint])
  detachLoop(loop)
  rmSync(directory, { recursive: true, force: true })
})

/** A process that writes one file and ends, which it can't while the file system is frozen. */
function writer(name: string): { process: ChildProcess; done: Promise<number | null> } {
  const child = spawn('sh', ['-c', 'echo x >"$1" && sync "$1"', 'sh', join(mountPoint, name)], { stdio: 'ignore' })
  return { process: child, done: new Promise((resolve) => child.once('exit', resolve)) }
}
const soon = (milliseconds: number) => new Promise<'still waiting'>((resolve) => setTimeout(resolve, milliseconds, 'still waiting'))

/** Only the script itself, not what it has asked to freeze. */
async function killWatchdog(): Promise<void> {
  const own = join(directory, 'agent', 'freeze-0')
  const children = execFileSync('pgrep', ['-P', String(process.pid), '-f', 'portolan-thaw'], { encoding: 'utf8' })
    .trim()
    .split('\n')
  const [watchdog] = children.filter((pid) => readlinkSync(`/proc/${pid}/cwd`) === own)
  process.kill(Number(watchdog), 'SIGKILL')
  await expect.poll(() => existsSync(`/proc/${watchdog}`)).toBe(false)
}

describe('a freeze', { timeout: 30_000 }, () => {
  test('holds writers while its lease is renewed, and lets them go when it is thawed', async () => {
    expect(await freezer.freeze('f', [mountPoint], 5000)).toMatchObject({ frozen: [mountPoint] })
    expect(readFileSync(join(directory, 'agent', 'freeze-0', 'frozen'), 'utf8')).toBe(`${mountPoint}\n`)
    const blocked = writer('during')
    expect(await Promise.race([blocked.done, soon(300)])).toBe('still waiting')
    expect(await freezer.renew('f', 5000)).toBe(true)
    expect(await freezer.freeze('f', [mountPoint], 5000)).toMatchObject({ frozen: [mountPoint] })
    expect(await freezer.thaw('f')).toBe(true)
    expect(await blocked.done).toBe(0)
    expect(readFileSync(join(directory, 'agent', 'freeze-0', 'frozen'), 'utf8')).toBe('')
  })

  test('ends by itself when nobody renews its lease, and is void for ever after', async () => {
    await freezer.freeze('f', [mountPoint], 700)
    expect(await writer('blocked').done).toBe(0)
    expect(await freezer.renew('f', 5000)).toBe(false)
    expect(await freezer.thaw('f')).toBe(false)
    await expect(freezer.freeze('f', [mountPoint], 5000)).rejects.toMatchObject({ code: 'FREEZE_VOID' })
    expect(await freezer.freeze('another', [mountPoint], 5000)).toMatchObject({ frozen: [mountPoint] })
    expect(await freezer.renew('f', 5000)).toBe(false)
    expect(await freezer.thaw('another')).toBe(true)
  })

  test('that was given up before it began never begins', async () => {
    expect(await freezer.thaw('f')).toBe(false)
    await expect(freezer.freeze('f', [mountPoint], 5000)).rejects.toMatchObject({ code: 'FREEZE_VOID' })
    expect(await writer('after').done).toBe(0)
  })

  test('is void before anything is thawed', async () => {
    await freezer.freeze('f', [mountPoint], 500)
    await writer('blocked').done
    // The writer could go on only after the watchdog had written down that the freeze is void.
    expect(existsSync(join(directory, 'agent', 'freeze-0', 'void'))).toBe(true)
  })

  test('that can not be is a typed error, and leaves nothing frozen', async () => {
    await expect(freezer.freeze('f', [mountPoint, '/proc'], 5000)).rejects.toMatchObject({ code: 'FREEZE_FAILED' })
    expect(await writer('after').done).toBe(0)
    expect(await freezer.renew('f', 5000)).toBe(false)
  })

  test('of nothing is a typed error: nobody would be held off', async () => {
    await expect(freezer.freeze('f', [], 5000)).rejects.toMatchObject({ code: 'FREEZE_FAILED', retryable: false })
    expect(await freezer.renew('f', 5000)).toBe(false)
  })

  test('takes hostile mount points for what they are: names', async () => {
    await expect(freezer.freeze('f', ['/; touch /tmp/portolan-hostile', '$(touch /tmp/portolan-hostile)'], 5000)).rejects.toMatchObject({
      code: 'FREEZE_FAILED',
    })
    expect(existsSync('/tmp/portolan-hostile')).toBe(false)
  })
})

describe('a freeze whose watchdog was killed', { timeout: 30_000 }, () => {
  test('is thawed at a word, before the answer to it', async () => {
    await freezer.freeze('f', [mountPoint], 20_000)
    await killWatchdog()
    expect(await freezer.thaw('f')).toBe(false)
    expect(await Promise.race([writer('after').done, soon(4000)])).toBe(0)
    expect(await freezer.freeze('another', [mountPoint], 5000)).toMatchObject({ frozen: [mountPoint] })
  })

  test('ends by itself when its lease has run out, and not before', async () => {
    await freezer.freeze('f', [mountPoint], 3000)
    await killWatchdog()
    expect(await freezer.renew('f', 20_000)).toBe(false)
    await expect(freezer.freeze('another', [mountPoint], 5000)).rejects.toMatchObject({ code: 'FREEZE_FAILED', retryable: true })
    const blocked = writer('blocked').done
    expect(await Promise.race([blocked, soon(1000)])).toBe('still waiting')
    expect(await Promise.race([blocked, soon(6000)])).toBe(0)
  })
})

describe('a file system that waits for its writers to be frozen', { timeout: 30_000 }, () => {
  const path = process.env['PATH']
  const tools = () => join(directory, 'tools')
  const asked = () => readFileSync(join(directory, 'asked'), 'utf8').trim().split('\n')
  beforeEach(() => {
    // As the kernel does, it neither answers nor dies before the writers are done.
    mkdirSync(tools())
    const script = `#!/bin/sh
echo "$*" >>'${join(directory, 'asked')}'
[ "$*" != '--freeze /slow' ] || until [ -e '${join(directory, 'written')}' ]; do sleep 0.05; done
`
    writeFileSync(join(tools(), 'fsfreeze'), script, { mode: 0o755 })
    process.env['PATH'] = `${tools()}:${path}`
  })
  afterEach(() => {
    writeFileSync(join(directory, 'written'), '')
    process.env['PATH'] = path
  })

  test('keeps none that is frozen already past the lease, and is thawed as soon as it is frozen', async () => {
    const freezing = expect(freezer.freeze('f', ['/quick', '/slow'], 700)).rejects.toMatchObject({ code: 'FREEZE_FAILED' })
    await expect.poll(asked, { timeout: 10_000 }).toContain('--unfreeze /quick')
    expect(asked()).not.toContain('--unfreeze /slow')
    await expect(freezer.freeze('another', ['/quick'], 5_000)).rejects.toMatchObject({ code: 'FREEZE_FAILED', retryable: true })
    const thawed = freezer.thaw('f')
    expect(await Promise.race([thawed, soon(300)])).toBe('still waiting')
    writeFileSync(join(directory, 'written'), '')
    expect(await thawed).toBe(false)
    expect(asked()).toEqual(['--freeze /quick', '--freeze /slow', '--unfreeze /quick', '--unfreeze /slow'])
    await freezing
    expect(await freezer.freeze('another', ['/quick'], 5_000)).toMatchObject({ frozen: ['/quick'] })
  })

  test('is thawed as soon as it is frozen also where the watchdog was killed meanwhile', async () => {
    const freezing = expect(freezer.freeze('f', ['/quick', '/slow'], 20_000)).rejects.toMatchObject({ code: 'FREEZE_FAILED' })
    await expect.poll(asked, { timeout: 10_000 }).toContain('--freeze /slow')
    await killWatchdog()
    await expect.poll(asked, { timeout: 10_000 }).toContain('--unfreeze /quick')
    expect(asked()).not.toContain('--unfreeze /slow')
    writeFileSync(join(directory, 'written'), '')
    await freezing
    expect(asked()).toContain('--unfreeze /slow')
  })

  test('does not keep a thaw that is asked for from the others', async () => {
    const freezing = expect(freezer.freeze('f', ['/quick', '/slow'], 20_000)).rejects.toMatchObject({ code: 'FREEZE_FAILED' })
    await expect.poll(asked, { timeout: 10_000 }).toContain('--freeze /slow')
    void freezer.thaw('f')
    await expect.poll(asked, { timeout: 10_000 }).toContain('--unfreeze /quick')
    writeFileSync(join(directory, 'written'), '')
    await freezing
  })
})
