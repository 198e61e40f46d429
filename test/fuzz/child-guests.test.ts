/** What a child VM reads of the control plane: messages in whatever pieces a serial port gives them. Each runtime is a real process, and echoes. */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { encodeToChild, type ToChild } from '../../src/transfer/child-messages.ts'
import { childChannel, type ChildChannel } from '../support/child-runtime.ts'
import { fuzz } from './support/fuzz.ts'

const guest = resolve(import.meta.dirname, '../../guests/child')
const runtimes = {
  node: { command: [process.execPath, join(guest, 'node/child.mjs')], program: 'module.exports = async (input) => input' },
  python: { command: ['python3', '-I', '-B', join(guest, 'python/child.py')], program: 'def run(input, context):\n    return input' },
}
const identity: ToChild = {
  type: 'IDENTITY',
  id: '00000000-0000-4000-8000-000000000001',
  name: 'child-1',
  mac: '52:54:00:00:00:01',
  unixMs: 1_800_000_000_000,
  entropy: Buffer.alloc(64, 7).toString('base64'),
}

describe.for(Object.entries(runtimes))('a child of %s', ([, { command, program }]) => {
  let directory: string
  let child: ChildProcess
  let channel: ChildChannel
  let index = 0
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'portolan-child-'))
    const env = { PATH: process.env['PATH'], PORTOLAN_CHILD_PORT: 'fd:3', PORTOLAN_PROGRAMS: directory }
    child = spawn(command[0]!, command.slice(1), { env, stdio: ['ignore', 'ignore', 'inherit', 'pipe'] })
    channel = childChannel(child.stdio[3] as Socket, 60_000)
    channel.say({ type: 'WARM_UP', program: null }, identity, { type: 'PROGRAM', source: program, shared: {}, taskTimeoutMs: 60_000 })
    await channel.next('PROGRAM_READY')
  })
  afterAll(async () => {
    const ended = new Promise((done) => child.once('exit', done))
    child.kill('SIGKILL')
    await ended
    rmSync(directory, { recursive: true })
  })

  // Numbers are as JSON of both has them: Python writes 1e16 for 10000000000000000, which is the same number.
  const input = fc.jsonValue({ stringUnit: 'binary', maxDepth: 3 })
  fuzz(
    'takes each task whole, with letters and openings for tasks that are gone in between',
    fc.tuple(fc.array(input, { minLength: 1, maxLength: 6 }), fc.integer({ min: 1, max: 400 })),
    async ([inputs, length]) => {
      const first = index
      const stray: ToChild[] = [
        { type: 'MESSAGE', from: 1, to: 1_000_000, body: inputs[0] ?? null },
        { type: 'BARRIER_OPEN', name: '__proto__', tasks: [1_000_000] },
      ]
      const messages = inputs.flatMap((one): ToChild[] => [
        ...stray,
        { type: 'COMPONENT', tasks: [{ index: index++, attempt: 1, input: one, interactsWith: [] }] },
      ])
      const bytes = Buffer.from(messages.map(encodeToChild).join(''))
      for (let at = 0; at < bytes.length; at += length) {
        ;(child.stdio[3] as Socket).write(bytes.subarray(at, at + length))
        await nextTurn()
      }
      for (const [offset, one] of inputs.entries())
        expect(await channel.end(first + offset)).toMatchObject({ type: 'RESULT', output: JSON.parse(JSON.stringify(one)) as unknown })
    },
    40,
  )
})
