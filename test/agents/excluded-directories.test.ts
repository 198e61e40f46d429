/** A real ext4 on a loop device with a directory that is left out: what the copy holds is looked at from outside, and by mounting it. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { AgentSession } from '../../src/agent-gateway/agent-session.ts'
import { createExcludedDirectories, wholeBlocks } from '../../src/agents/migration/excluded-directories.ts'
import { parseExtents } from '../../src/agents/migration/file-extents.ts'
import { startAgentPair, type AgentPair } from './agent-pair.ts'
import { freePort } from './faulty-link.ts'

const mebibyte = 1024 * 1024
const blockBytes = 65_536
const diskBytes = 96 * mebibyte
const options = { timeoutMs: 60_000 }

let pair: AgentPair
let source: AgentSession
let destination: AgentSession
let mountPoint: string
let cache: string
let data: string
const mounted: string[] = []
const made: string[] = []

function temporaryDirectory(): string {
  const at = mkdtempSync(join(tmpdir(), 'portolan-excluded-'))
  made.push(at)
  return at
}
function mount(device: string): string {
  const at = temporaryDirectory()
  execFileSync('mount', [device, at])
  mounted.push(at)
  return at
}
function file(path: string, bytes: number): Buffer {
  const content = randomBytes(bytes)
  writeFileSync(path, content)
  return content
}
const sync = () => execFileSync('sync', ['-f', mountPoint])
async function connect(excludedDirectories: string[]) {
  const port = await freePort()
  await destination.request('transfer.connect', { listenPort: port, timeoutMs: 5000 }, options)
  await destination.request('receive.start', { disk: pair.destination.name, empty: true }, options)
  await source.request('transfer.connect', { endpoints: [{ host: '127.0.0.1', port }], timeoutMs: 10_000 }, options)
  await source.request('tracking.start', { disk: pair.source.name, excludedDirectories }, options)
}
const round = (number: number, mode: 'FULL' | 'CHANGED') => source.request('round.run', { round: number, mode }, options)
async function roots() {
  const [ours, theirs] = await Promise.all([source.request('root', {}, options), destination.request('root', {}, options)])
  return { ours: ours.root, theirs: theirs.root }
}
/** Every block of the two images that differs. */
function differingBlocks(): number[] {
  execFileSync('sync', [pair.source.imagePath, pair.destination.imagePath])
  const [ours, theirs] = [readFileSync(pair.source.imagePath), readFileSync(pair.destination.imagePath)]
  return Array.from({ length: diskBytes / blockBytes }, (_, block) => block).filter((block) => {
    const at = block * blockBytes
    return !ours.subarray(at, at + blockBytes).equals(theirs.subarray(at, at + blockBytes))
  })
}
/** Where the file system's own tool, which reads the disk and doesn't ask the kernel, says that a file lies: 4 KiB blocks. */
function blocksOf(path: string): number[] {
  const shown = execFileSync('debugfs', ['-R', `blocks ${path}`, pair.source.path], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  return shown.trim().split(/\s+/).map(Number)
}

beforeEach(async () => {
  pair = await startAgentPair({ source: diskBytes, destination: diskBytes })
  execFileSync('mkfs.ext4', ['-q', '-b', '4096', pair.source.path])
  mountPoint = mount(pair.source.path)
  cache = join(mountPoint, 'var', 'cache')
  data = join(mountPoint, 'data')
  mkdirSync(cache, { recursive: true })
  mkdirSync(data)
  source = await pair.session('SOURCE')
  destination = await pair.session('DESTINATION')
}, 30_000)
afterEach(async () => {
  await pair?.close()
  for (const at of mounted.splice(0)) execFileSync('umount', [at])
  for (const at of made.splice(0)) rmSync(at, { recursive: true })
})

describe('an excluded directory', { timeout: 60_000 }, () => {
  test('is not sent but for what became others in the meantime, and is empty in the copy', async () => {
    const kept = file(join(data, 'kept'), 6 * mebibyte)
    file(join(cache, 'large'), 24 * mebibyte)
    file(join(cache, 'freed later'), 16 * mebibyte)
    mkdirSync(join(cache, 'deeper'), { mode: 0o750 })
    for (let index = 0; index < 40; index++) file(join(cache, 'deeper', `small ${index}`), 20_000)
    const shared = file(join(cache, 'two names'), 3 * mebibyte)
    linkSync(join(cache, 'two names'), join(data, 'its other name'))
    writeFileSync(join(cache, 'not\nmine'), randomBytes(300_000))
    execFileSync('chmod', ['1733', cache])
    sync()
    await connect([cache])
    let lookedUpFiles: number | undefined
    pair.agents.onProgress('SOURCE', (progress) => void (lookedUpFiles = progress.lookedUpFiles))

    const first = await round(1, 'FULL')
    // 45 names, of which 42 are files with places of their own.
    expect(lookedUpFiles).toBe(87)
    expect(first.excludedBytes).toBeGreaterThan(39 * mebibyte)
    expect(first.bytesSent).toBeLessThan(14 * mebibyte)
    expect(await roots()).toSatisfy(({ ours, theirs }) => ours === theirs)

    // Blocks change hands: what was a cached file's becomes a kept file's, and new ones are cached.
    rmSync(join(cache, 'freed later'))
    sync()
    const late = file(join(data, 'late'), 14 * mebibyte)
    file(join(cache, 'new'), 10 * mebibyte)
    sync()
    await source.request('freeze', { freezeId: 'f', leaseMs: 60_000 }, options)
    const remainder = await round(2, 'CHANGED')
    expect(remainder).toMatchObject({ pendingBytes: 0, rescanNeeded: false, excluded: [{ partition: null, path: '/var/cache' }] })
    expect(remainder.excludedBytes).toBeGreaterThan(33 * mebibyte)
    expect(await roots()).toSatisfy(({ ours, theirs }) => ours === theirs)

    const differing = differingBlocks()
    expect(differing.length).toBeGreaterThan((33 * mebibyte) / blockBytes)
    const files = ['large', 'new', ...Array.from({ length: 40 }, (_, index) => `deeper/small ${index}`)]
    const cached = new Set(files.flatMap((name) => blocksOf(`"/var/cache/${name}"`)))
    const whole = (block: number) => Array.from({ length: 16 }, (_, index) => block * 16 + index).every((small) => cached.has(small))
    expect(differing.filter((block) => !whole(block))).toEqual([])
    await source.request('thaw', { freezeId: 'f' }, options)

    const request = { nics: [], empty: remainder.excluded! }
    const { steps } = await destination.request('fixUp', request, options)
    expect(steps[0]).toEqual({ step: 'empty-excluded-directories', changed: true, detail: '/var/cache' })
    expect((await destination.request('fixUp', request, options)).steps[0]).toMatchObject({ changed: false })
    const copy = mount(pair.destination.path)
    expect(readdirSync(join(copy, 'var/cache'))).toEqual([])
    expect((statSync(join(copy, 'var/cache')).mode & 0o7777).toString(8)).toBe('1733')
    expect(readFileSync(join(copy, 'data/kept')).equals(kept)).toBe(true)
    expect(readFileSync(join(copy, 'data/late')).equals(late)).toBe(true)
    expect(readFileSync(join(copy, 'data/its other name')).equals(shared)).toBe(true)
    execFileSync('umount', [mounted.pop()!])
    execFileSync('e2fsck', ['-fn', pair.destination.path])
  })

  test('stays left out when the destination begins anew, and is read again there once it is not left out any more', async () => {
    file(join(cache, 'large'), 24 * mebibyte)
    file(join(data, 'kept'), 4 * mebibyte)
    sync()
    await connect([cache])
    await round(1, 'FULL')
    destination = await pair.restart('DESTINATION')
    const port = await freePort()
    await destination.request('transfer.connect', { listenPort: port, timeoutMs: 5000 }, options)
    await destination.request('receive.start', { disk: pair.destination.name, empty: false }, options)
    await source.request('transfer.connect', { endpoints: [{ host: '127.0.0.1', port }], timeoutMs: 10_000 }, options)
    const again = await round(2, 'FULL')
    expect(again.bytesSent).toBeLessThan(2 * mebibyte)
    expect(again.excludedBytes).toBeGreaterThan(23 * mebibyte)
    expect(await roots()).toSatisfy(({ ours, theirs }) => ours === theirs)

    execFileSync('mv', [join(cache, 'large'), join(data, 'large')])
    sync()
    const last = await round(3, 'CHANGED')
    expect(last.excludedBytes).toBe(0)
    expect(last.bytesSent).toBeGreaterThan(23 * mebibyte)
    expect(await roots()).toSatisfy(({ ours, theirs }) => ours === theirs)
    expect(differingBlocks()).toEqual([])
  })

  test('is emptied of what nobody may delete, and one that nobody may change is a failure that no repetition mends', async () => {
    for (const name of ['immutable', 'deeper/append-only']) {
      mkdirSync(dirname(join(cache, name)), { recursive: true })
      file(join(cache, name), 10_000)
    }
    execFileSync('chattr', ['+i', join(cache, 'immutable')])
    execFileSync('chattr', ['+a', join(cache, 'deeper/append-only'), join(cache, 'deeper')])
    const held = join(mountPoint, 'held')
    mkdirSync(held)
    file(join(held, 'inside'), 10_000)
    execFileSync('chattr', ['+i', held])
    sync()
    await connect([cache, held])
    await round(1, 'FULL')
    await source.request('freeze', { freezeId: 'f', leaseMs: 60_000 }, options)
    await round(2, 'CHANGED')
    await source.request('thaw', { freezeId: 'f' }, options)
    const empty = (path: string) => destination.request('fixUp', { nics: [], empty: [{ partition: null, path }] }, options)
    expect((await empty('/var/cache')).steps[0]).toMatchObject({ changed: true })
    await expect(empty('/held')).rejects.toMatchObject({
      agentCode: 'FIX_UP_FAILED',
      retryable: false,
      message: expect.stringMatching(/chattr \+i/),
    })
    const copy = mount(pair.destination.path)
    expect(readdirSync(join(copy, 'var/cache'))).toEqual([])
  })

  test('that is being looked up keeps no stop waiting, and leaves no process behind', async () => {
    file(join(cache, 'large'), 100_000)
    sync()
    const tools = temporaryDirectory()
    const [started, atItsEnd] = [join(tools, 'started'), join(tools, 'looked-up')]
    writeFileSync(
      join(tools, 'filefrag'),
      `#!/bin/sh\ntrap '' TERM\necho $$ > ${started}.new\nmv ${started}.new ${started}\nexec perl -e 'sleep 25; open my $done, ">", shift' ${atItsEnd}\n`,
      { mode: 0o755 },
    )
    const { PATH } = process.env
    process.env['PATH'] = `${tools}:${PATH}`
    try {
      source = await pair.restart('SOURCE')
    } finally {
      process.env['PATH'] = PATH
    }
    await connect([cache])
    const stopped = expect(round(1, 'FULL')).rejects.toMatchObject({ agentCode: 'ROUND_STOPPED', retryable: true })
    await vi.waitUntil(() => existsSync(started), { timeout: 20_000 })
    const pid = Number(readFileSync(started, 'utf8'))
    await source.request('round.stop', {}, options)
    expect(existsSync(atItsEnd)).toBe(false)
    await stopped
    await vi.waitUntil(() => !existsSync(`/proc/${pid}`), { timeout: 2000 })

    for (const name of ['one', 'two', 'three']) file(join(cache, name), 10_000)
    const stop = new AbortController()
    let names = 0
    const lookedUp = createExcludedDirectories(pair.source.name, diskBytes / blockBytes, [cache]).lookUp(() => {
      if (++names === 2) stop.abort()
    }, stop.signal)
    await expect(lookedUp).rejects.toThrow('aborted')
    expect(names).toBe(2)
  })

  test('that can not be left out is refused before anything is copied', async () => {
    symlinkSync('var/cache', join(mountPoint, 'link'))
    writeFileSync(join(mountPoint, 'plain'), 'x')
    const refusals = [
      [join(mountPoint, 'link'), /symbolic link/],
      [join(mountPoint, 'plain'), /no directory/],
      ['/proc/sys', /type proc/],
      [tmpdir(), /can't be left out/],
    ] as const
    for (const [directory, reason] of refusals) {
      await expect(
        source.request('tracking.start', { disk: pair.source.name, excludedDirectories: [directory] }, options),
      ).rejects.toMatchObject({ agentCode: 'INVALID_REQUEST', message: expect.stringMatching(reason) })
    }
    await source.request('tracking.start', { disk: pair.source.name, excludedDirectories: [join(mountPoint, 'not there')] }, options)
  })
})

test('only whole blocks count, also where several files make up one', () => {
  expect(
    wholeBlocks([
      { start: 200, end: 300 },
      { start: 100, end: 200 },
      { start: 300, end: 400 },
      { start: 512, end: 640 },
      { start: 700, end: 760 },
    ]),
  ).toEqual([
    { first: 1, count: 2 },
    { first: 4, count: 1 },
  ])
})

test('an extent counts only where it has a place of its own', () => {
  const output = `Filesystem type is: ef53
File size of /a is 20480 (40 blocks of 512 bytes)
 ext:     logical_offset:        physical_offset: length:   expected: flags:
   0:        0..      39:        800..       839:     40:
   1:       40..      79:       1600..      1639:     40:        840: unwritten
   2:       80..     119:       2400..      2439:     40:       1640: last,shared,eof
/a: 3 extents found
File size of /b is 4096 (8 blocks of 512 bytes)
   0:        0..       7:          0..         0:      0:             last,unknown_loc,delalloc,eof
/b: 1 extent found`
  expect(parseExtents(output)).toEqual([
    { start: 800, end: 840 },
    { start: 1600, end: 1640 },
  ])
})
