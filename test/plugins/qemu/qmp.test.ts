import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { QmpError, withQmp } from '../../../plugins/qemu/qmp.ts'

let directory: string
let server: Server | undefined
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-qmp-'))
})
afterEach(async () => {
  server?.close()
  await rm(directory, { recursive: true, force: true })
})

/** Sends the greeting, then one of the answers for each line that comes; after the last answer it hangs up. */
async function fakeQemu(answers: string[]): Promise<string> {
  const path = join(directory, 'qmp.sock')
  server = createServer((socket) => {
    let position = 0
    socket.on('error', () => undefined)
    socket.write('{"QMP":{}}\n')
    socket.on('data', () => {
      const answer = answers[position++]
      if (answer === undefined) socket.destroy()
      else socket.write(answer)
    })
  })
  await new Promise<void>((listening) => server?.listen(path, listening))
  return path
}
const ask = (path: string, options: { signal?: AbortSignal; answerTimeoutMs?: number } = {}) =>
  withQmp(path, options, (session) => session.execute('query-status'))

test('events between a command and its answer are passed over', async () => {
  const path = await fakeQemu(['{"return":{}}\n{"event":"RESET"}\n', '{"event":"STOP"}\n{"return":{"running":true}}\n'])
  expect(await ask(path)).toEqual({ running: true })
})

test('a refusal carries its class', async () => {
  const path = await fakeQemu(['{"return":{}}\n', '{"error":{"class":"DeviceNotFound","desc":"no such thing"}}\n'])
  const refusal = await ask(path).catch((error: unknown) => error)
  expect(refusal).toBeInstanceOf(QmpError)
  expect(refusal).toMatchObject({ qemuClass: 'DeviceNotFound', message: 'QEMU refused query-status: no such thing' })
})

test.each([
  ['hangs up', [] as string[]],
  ['answers something else than JSON', ['{"return":{}}\n', 'what?\n']],
  ['is silent', ['{"return":{}}\n', '']],
])('one that %s is unreachable', async (_, answers) => {
  await expect(ask(await fakeQemu(answers), { answerTimeoutMs: 100 })).rejects.toMatchObject({ code: 'UNREACHABLE', retryable: true })
})

test('one that is not there is unreachable', async () => {
  await expect(ask(join(directory, 'none'))).rejects.toMatchObject({ code: 'UNREACHABLE' })
})

test('a cancelled call ends', async () => {
  const abort = new AbortController()
  const path = await fakeQemu(['{"return":{}}\n', ''])
  const asking = ask(path, { signal: abort.signal })
  abort.abort()
  await expect(asking).rejects.toMatchObject({ code: 'CANCELLED' })
})
