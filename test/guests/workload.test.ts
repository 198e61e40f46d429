import { spawn, type ChildProcess } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { appendFileSync, mkdtempSync, openSync, rmSync, writeSync, closeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

let directory: string
let workload: ChildProcess | undefined
let base: string

beforeEach(() => void (directory = mkdtempSync(join(tmpdir(), 'portolan-workload-'))))
afterEach(async () => {
  await end()
  rmSync(directory, { recursive: true, force: true })
})

/** Starts the workload on a free port, quick and small, so that the ring turns within the test. */
async function start() {
  const environment: NodeJS.ProcessEnv = {
    PATH: process.env['PATH'],
    WORKLOAD_DIRECTORY: directory,
    WORKLOAD_PORT: '0',
    WORKLOAD_RING_MIB: '4',
    WORKLOAD_LIMIT_MIB: '1',
    WORKLOAD_BYTES_PER_SECOND: String(64 << 20),
  }
  const program = resolve(import.meta.dirname, '../../guests/workload')
  const child = spawn('python3', ['-I', '-S', '-B', program], { env: environment, stdio: ['ignore', 'pipe', 'inherit'] })
  workload = child
  const line = await new Promise<string>((done) => child.stdout.once('data', (data: Buffer) => done(data.toString())))
  base = `http://127.0.0.1:${/port (\d+)/.exec(line)![1]}`
}

async function end() {
  if (workload === undefined || workload.exitCode !== null || workload.signalCode !== null) return
  const ended = new Promise((done) => workload!.once('exit', done))
  workload.kill('SIGKILL')
  await ended
}

const get = async (path: string) => (await fetch(base + path)).json()
const post = (body: Uint8Array<ArrayBuffer>) => fetch(`${base}/records`, { method: 'POST', body })
const sha256 = (content: Uint8Array) => createHash('sha256').update(content).digest('hex')

/** Posts `count` records and resolves to what was acknowledged. */
async function acknowledged(count: number): Promise<{ number: number; sha256: string }[]> {
  const answers = []
  for (let n = 0; n < count; n++) {
    const body = new Uint8Array(randomBytes(700))
    const answer = (await (await post(body)).json()) as { number: number; sha256: string }
    expect(answer.sha256).toBe(sha256(body))
    answers.push(answer)
  }
  return answers
}

interface BackgroundRecord {
  number: number
  state: string
  intact: boolean | null
}

async function backgroundStates() {
  const { records } = (await get('/background')) as { records: BackgroundRecord[] }
  return { states: new Set(records.map(({ state }) => state)), broken: records.filter(({ intact }) => intact === false) }
}

describe('records of clients', () => {
  test('are numbered, acknowledged with their checksum, and read back from the disk', async () => {
    await start()
    const answers = await acknowledged(5)
    expect(answers.map(({ number }) => number)).toEqual([1, 2, 3, 4, 5])
    expect(await get('/records/3')).toEqual({ ...answers[2], length: 700, intact: true })
    expect(await get('/records?from=2&to=3')).toMatchObject({ newest: 5, records: answers.slice(1, 3) })
  })

  test('are all there after the process was killed, and a torn one that follows them is cut off', async () => {
    await start()
    const answers = await acknowledged(20)
    await end()
    appendFileSync(join(directory, 'client-records'), 'PREC and then the power went')
    await start()
    expect(await get('/records')).toMatchObject({ newest: 20, records: answers })
    expect(await get('/stats')).toMatchObject({ discardedBytes: 28 })
    expect((await acknowledged(1))[0]!.number).toBe(21)
  })

  test('whose bytes changed on the disk are told as such', async () => {
    await start()
    await acknowledged(2)
    const file = openSync(join(directory, 'client-records'), 'r+')
    writeSync(file, Buffer.from([1, 2, 3]), 0, 3, 100)
    closeSync(file)
    expect(await get('/records')).toMatchObject({
      records: [
        { number: 1, intact: false },
        { number: 2, intact: true },
      ],
    })
  })

  test('are refused, not dropped, when there is no room for more', async () => {
    await start()
    expect((await post(Buffer.alloc(1 << 20))).status).toBe(507)
    expect((await post(Buffer.alloc((1 << 20) + 1))).status).toBe(413)
    expect((await acknowledged(1))[0]!.number).toBe(1)
  })
})

describe('background records', () => {
  test('are appended, rewritten and punched without end in bounded room, and what is promised is there, also after a kill', async () => {
    await start()
    await expect.poll(async () => ((await get('/stats')) as { oldest: number }).oldest, { timeout: 20_000 }).toBeGreaterThan(64)
    await expect.poll(async () => (await backgroundStates()).states.has('punched'), { timeout: 20_000 }).toBe(true)
    expect((await backgroundStates()).broken).toEqual([])
    await end()
    await start()
    expect((await backgroundStates()).broken).toEqual([])
    expect(await get('/stats')).toMatchObject({ failure: null })
  })
})

test('bad requests get an answer that says why', async () => {
  await start()
  for (const [path, status] of [
    ['/records/0', 404],
    ['/records/x', 404],
    ['/records?from=a', 400],
    ['/records?from=0&to=99999999', 400],
    ['/elsewhere', 404],
  ] as const) {
    const answer = await fetch(base + path)
    expect(answer.status, path).toBe(status)
    expect(((await answer.json()) as { error: string }).error.length).toBeGreaterThan(10)
  }
})
