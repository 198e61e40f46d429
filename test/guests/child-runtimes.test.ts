/** The two runtimes of children, outside a VM: their port is a socket that they inherit, and the kernel's identity is left alone. */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ToChild } from '../../src/transfer/child-messages.ts'
import { childChannel, type ChildChannel } from '../support/child-runtime.ts'

const guest = resolve(import.meta.dirname, '../../guests/child')
const runtimes = {
  node: {
    command: [process.execPath, join(guest, 'node/child.mjs')],
    empty: 'module.exports = async () => null',
    warmUp: 'globalThis.warmed = 42',
    program: `
      const { setTimeout: sleep } = require('node:timers/promises')
      module.exports = async ({ do: what, ...given }, context) => ({
        echo: () => given,
        warmed: () => globalThis.warmed,
        shared: () => context.shared,
        nothing: () => undefined,
        async meet() { await context.barrier('here', 2); return context.index },
        async exchange() { await context.send(given.to, { from: context.index }); return await context.receive(given.to) },
        log() { console.log('printed', 1); context.log('logged'); context.log('x'.repeat(1e8)) },
        fail() { throw new Error('no luck') },
        exit() { process.exit(3) },
        late: () => sleep(5_000),
        large: () => 'x'.repeat(2_000_000),
        unwritable: () => 5n,
        uncaught: () => new Promise(() => setTimeout(() => { throw new Error('nobody caught it') })),
        random: () => Math.random(),
      })[what]()`,
    wrong: 'module.exports = async () => {\n  const a = 1\n  let 5\n}',
    none: 'module.exports = 5',
    told: { fail: 'Error: no luck (line 11)', wrong: /^SyntaxError: .+ \(line 3\)$/, unwritable: /can't be written as JSON/ },
  },
  python: {
    command: ['python3', '-I', '-B', join(guest, 'python/child.py')],
    empty: 'def run(input, context):\n    pass',
    warmUp: 'warmed = 42',
    program: `
import sys, time, random, warm_up
def meet(context):
    context.barrier('here', 2)
    return context.index
def exchange(given, context):
    context.send(given['to'], {'from': context.index})
    return context.receive(given['to'])
def log(context):
    print('printed', 1)
    context.log('logged')
    context.log('x' * 100_000_000)
def run(given, context):
    what = given.pop('do')
    if what == 'fail':
        raise ValueError('no luck')
    return {
        'echo': lambda: given,
        'warmed': lambda: warm_up.warmed,
        'shared': lambda: context.shared,
        'nothing': lambda: None,
        'meet': lambda: meet(context),
        'exchange': lambda: exchange(given, context),
        'log': lambda: log(context),
        'exit': lambda: sys.exit(3),
        'late': lambda: time.sleep(5),
        'large': lambda: 'x' * 2_000_000,
        'unwritable': lambda: {1j},
        'random': random.random,
    }[what]()`,
    wrong: 'def run(input, context):\n    a = 1\n    return (',
    none: 'run = 5',
    told: { fail: 'ValueError: no luck (line 16)', wrong: /^SyntaxError: .+ \(line 3\)$/, unwritable: /can't be written as JSON/ },
  },
}

const identity: ToChild = {
  type: 'IDENTITY',
  id: '00000000-0000-4000-8000-000000000001',
  name: 'child-1',
  mac: '52:54:00:00:00:01',
  unixMs: 1_800_000_000_000,
  entropy: Buffer.alloc(64, 7).toString('base64'),
}
const programOf = (source: string, taskTimeoutMs = 10_000): ToChild => ({ type: 'PROGRAM', source, shared: { a: 'text' }, taskTimeoutMs })

let directory: string
let guestProcess: ChildProcess | undefined
beforeEach(() => void (directory = mkdtempSync(join(tmpdir(), 'portolan-child-'))))
afterEach(async () => {
  if (guestProcess && guestProcess.exitCode === null && guestProcess.signalCode === null) {
    const ended = new Promise((done) => guestProcess!.once('exit', done))
    guestProcess.kill('SIGKILL')
    await ended
  }
  rmSync(directory, { recursive: true, force: true })
})

describe.for(Object.entries(runtimes))('%s', ([name, runtime]) => {
  function start(): ChildChannel {
    const environment = { PATH: process.env['PATH'], PORTOLAN_CHILD_PORT: 'fd:3', PORTOLAN_PROGRAMS: directory }
    guestProcess = spawn(runtime.command[0]!, runtime.command.slice(1), {
      env: environment,
      stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
    })
    return childChannel(guestProcess.stdio[3] as Socket, 20_000)
  }

  /** Warmed, with its identity and its program. */
  async function started(taskTimeoutMs?: number): Promise<ChildChannel> {
    const child = start()
    expect(await child.next('HELLO')).toMatchObject({ runtime: name, protocol: 1 })
    child.say({ type: 'WARM_UP', program: runtime.warmUp })
    await child.next('READY')
    child.say(identity, programOf(runtime.program, taskTimeoutMs))
    await child.next('IDENTIFIED')
    await child.next('PROGRAM_READY')
    return child
  }
  const outputOf = async (child: ChildChannel, index: number) => {
    const end = await child.end(index)
    return end.type === 'RESULT' ? end.output : end.message
  }

  test('takes everything at once, and answers in order', async () => {
    const child = start()
    child.say({ type: 'WARM_UP', program: runtime.warmUp }, identity, programOf(runtime.program))
    child.run(0, { do: 'warmed' })
    child.run(1, { do: 'shared' })
    child.run(2, { do: 'nothing' })
    child.run(3, { do: 'echo', text: 'ü\u2028\u0000 "', deep: [[{}]], number: -1.5e-7 })
    expect(await outputOf(child, 0)).toBe(42)
    expect(await outputOf(child, 1)).toEqual({ a: 'text' })
    expect(await outputOf(child, 2)).toBeNull()
    expect(await outputOf(child, 3)).toEqual({ text: 'ü\u2028\u0000 "', deep: [[{}]], number: -1.5e-7 })
    expect(child.all('STARTED').map(({ indices }) => indices)).toEqual([[0], [1], [2], [3]])
  })

  test('what its rehearsal did is not told, and leaves no program', async () => {
    const child = start()
    child.say({ type: 'WARM_UP', program: null })
    await child.next('READY')
    child.run(0, {})
    expect(await child.end(0)).toMatchObject({ type: 'TASK_FAILED', message: expect.stringContaining('There is no program yet') as string })
    for (const type of ['RESULT', 'LOG', 'IDENTIFIED', 'PROGRAM_READY'] as const) expect(child.all(type)).toEqual([])
  })

  test('a warm-up that fails says why', async () => {
    const child = start()
    child.say({ type: 'WARM_UP', program: runtime.wrong })
    expect((await child.next('WARM_UP_FAILED')).message).toMatch(runtime.told.wrong)
  })

  test('a program that does not parse, or has nothing to run, says so; the next one is taken', async () => {
    const child = start()
    child.say({ type: 'WARM_UP', program: null }, identity, programOf(runtime.wrong))
    expect((await child.next('PROGRAM_FAILED')).message).toMatch(runtime.told.wrong)
    child.say(programOf(runtime.none))
    expect((await child.next('PROGRAM_FAILED')).message).toMatch(/^TypeError: The program (exports|defines) no function/)
    child.say(programOf(runtime.empty))
    await child.next('PROGRAM_READY')
    child.run(0, {})
    expect(await child.end(0)).toMatchObject({ type: 'RESULT', output: null })
  })

  test('a task that throws, exits, or gives what nobody can take fails alone', async () => {
    const child = await started()
    const what = ['fail', 'exit', 'large', 'unwritable', 'echo']
    what.forEach((one, index) => child.run(index, { do: one }))
    expect(await child.end(0)).toMatchObject({ type: 'TASK_FAILED', attempt: 1, message: runtime.told.fail, timedOut: false })
    expect(await outputOf(child, 1)).toMatch(/exit.*which would end the runtime of all tasks/)
    expect(await outputOf(child, 2)).toMatch(/The output is 2000002 bytes as JSON, more than 1048576/)
    expect(await outputOf(child, 3)).toMatch(runtime.told.unwritable)
    expect(await outputOf(child, 4)).toEqual({})
  })

  test('a task that takes too long fails, and the others go on', async () => {
    const child = await started(300)
    child.run(0, { do: 'late' })
    child.run(1, { do: 'echo' })
    expect(await child.end(0)).toMatchObject({ type: 'TASK_FAILED', message: 'The task took longer than 300 ms.', timedOut: true })
    expect(await outputOf(child, 1)).toEqual({})
  })

  test('what a task logs and prints comes with its index, and 100 MB of it are cut', async () => {
    const child = await started()
    child.run(0, { do: 'log' })
    await child.end(0)
    const logs = child.all('LOG')
    expect(new Set(logs.map(({ index }) => index))).toEqual(new Set([0]))
    const text = logs.map(({ text }) => text).join('')
    expect(text).toMatch(/^printed 1\nlogged\nx{60000}/)
    expect(text).toHaveLength(65_537)
    expect(text.at(-1)).toBe('…')
  })

  test('tasks of a component meet at a barrier', async () => {
    const child = await started()
    child.run(0, { do: 'meet' }, { do: 'meet' })
    const arrived = [await child.next('BARRIER'), await child.next('BARRIER')]
    expect(new Set(arrived.map(({ index }) => index))).toEqual(new Set([0, 1]))
    expect(arrived[0]).toMatchObject({ name: 'here', size: 2 })
    expect([...child.all('RESULT'), ...child.all('TASK_FAILED')]).toEqual([])
    child.say({ type: 'BARRIER_OPEN', name: 'here', tasks: [0, 1] })
    expect([await outputOf(child, 0), await outputOf(child, 1)]).toEqual([0, 1])
  })

  test('tasks of a component send each other messages, and receive those of one sender', async () => {
    const child = await started()
    child.run(0, { do: 'exchange', to: 1 }, { do: 'exchange', to: 0 })
    for (const { from, to, body } of [await child.next('SEND'), await child.next('SEND')])
      child.say({ type: 'MESSAGE', from: 7, to, body: 'of somebody else' }, { type: 'MESSAGE', from, to, body })
    expect(await outputOf(child, 0)).toEqual({ from: 1, body: { from: 1 } })
    expect(await outputOf(child, 1)).toEqual({ from: 0, body: { from: 0 } })
  })

  test('ends when its port does', async () => {
    await start().next('HELLO')
    const ended = new Promise((done) => guestProcess!.once('exit', done))
    ;(guestProcess!.stdio[3] as Socket).destroy()
    expect(await ended).toBe(0)
  })

  test('a thousand tasks come back in order, each once', async () => {
    const child = await started()
    for (let index = 0; index < 1_000; index++) child.run(index, { do: 'echo', index })
    await child.end(999)
    expect(child.all('RESULT').map(({ index, output }) => [index, output])).toEqual(
      Array.from({ length: 1_000 }, (_, index) => [index, { index }]),
    )
  })
})

test('node: what nobody catches fails the task that it came from', async () => {
  const { command, program } = runtimes.node
  const environment = { PATH: process.env['PATH'], PORTOLAN_CHILD_PORT: 'fd:3', PORTOLAN_PROGRAMS: directory }
  guestProcess = spawn(command[0]!, command.slice(1), { env: environment, stdio: ['ignore', 'ignore', 'inherit', 'pipe'] })
  const child = childChannel(guestProcess.stdio[3] as Socket, 20_000)
  child.say({ type: 'WARM_UP', program: null }, identity, programOf(program))
  child.run(0, { do: 'meet' }, { do: 'uncaught' })
  expect(await child.end(1)).toMatchObject({ type: 'TASK_FAILED', message: expect.stringContaining('Error: nobody caught it') as string })
  child.say({ type: 'BARRIER_OPEN', name: 'here', tasks: [0] })
  expect(await child.end(0)).toMatchObject({ type: 'RESULT' })
})

test('node: an ES module is a program, too, and may import', async () => {
  const { command } = runtimes.node
  const environment = { PATH: process.env['PATH'], PORTOLAN_CHILD_PORT: 'fd:3', PORTOLAN_PROGRAMS: directory }
  guestProcess = spawn(command[0]!, command.slice(1), { env: environment, stdio: ['ignore', 'ignore', 'inherit', 'pipe'] })
  const child = childChannel(guestProcess.stdio[3] as Socket, 20_000)
  const source = `import { basename } from 'node:path'\nexport default async (input) => basename(input)`
  child.say({ type: 'WARM_UP', program: null }, identity, programOf(source))
  child.run(0, '/a/b')
  expect(await child.end(0)).toMatchObject({ type: 'RESULT', output: 'b' })
})
