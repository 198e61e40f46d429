/**
 * Runs in a parent VM and, after a fork, in its children: the runtime that is warmed once, and in which every task runs. Speaks the messages of
 * src/transfer/child-messages.ts over the port that PORTOLAN_CHILD_PORT names.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { openIdentity } from './identity.mjs'
import { libraries } from './libraries.mjs'
import { openPort } from './port.mjs'
import { describe, load } from './program.mjs'
import { takeOverRandomness } from './randomness.mjs'
import { createTasks } from './tasks.mjs'

const { PORTOLAN_CHILD_PORT: path, PORTOLAN_IDENTITY: identityDirectory, PORTOLAN_PROGRAMS: directory } = process.env

const rehearsals = 30

takeOverRandomness()
const takeIdentity = openIdentity(identityDirectory)
const send = (message) => {
  port.post(JSON.stringify(message))
  port.flush()
}

const answers = {
  async WARM_UP({ program }) {
    port.hold()
    // Whatever comes now waits.
    await undefined
    const began = performance.now()
    try {
      const exported = program === null ? undefined : await load('warm-up', program, directory)
      const ready = exported?.default ?? exported
      if (typeof ready === 'function') await ready()
    } catch (error) {
      return send({ type: 'WARM_UP_FAILED', message: describe(error, 'warm-up') })
    }
    const found = libraries()
    await rehearse()
    send({ type: 'READY', libraries: found, warmUpMs: Math.round(performance.now() - began) })
  },
  IDENTITY(message) {
    takeIdentity(message)
    send({ type: 'IDENTIFIED' })
  },
  async PROGRAM({ source, shared, taskTimeoutMs }) {
    try {
      const exported = await load('program', source, directory)
      const program = typeof exported === 'function' ? exported : exported?.default
      if (typeof program !== 'function')
        throw new TypeError('The program exports no function: set module.exports, or export default, to async (input, context) => output.')
      tasks.setProgram({ program, shared, taskTimeoutMs })
    } catch (error) {
      return send({ type: 'PROGRAM_FAILED', message: describe(error, 'program') })
    }
    send({ type: 'PROGRAM_READY' })
  },
  COMPONENT: (message) => tasks.add(message.tasks),
  MESSAGE: (message) => tasks.deliver(message),
  BARRIER_OPEN: (message) => tasks.openBarrier(message),
}

/** What has come while a text was loaded. */
let loading
const later = []

function receive(message) {
  if (loading) later.push(message)
  else take(message)
}

function take(message) {
  const given = answers[message.type](message)
  if (given instanceof Promise) loading = given.then(() => loaded(message.type))
}

function loaded(type) {
  const nothingCame = later.length === 0
  loading = undefined
  while (later.length > 0 && !loading) take(later.shift())
  if (type !== 'WARM_UP') return
  // A parent is saved in this wait.
  if (nothingCame) port.waitForNext()
  else port.goOn()
}

/**
 * What every child does first is done here often enough that it is compiled, and its kinds of objects are known: whatever is new to a child has to be found out again in each of
 * them, and under emulation its machine code has to be translated, too.
 */
async function rehearse() {
  collectGarbage()
  const given = loading
  const waiting = later.splice(0)
  loading = undefined
  port.mute(true)
  port.take({ type: 'PROGRAM', source: 'module.exports = async (input, context) => context.log(input)', shared: {}, taskTimeoutMs: 1_000 })
  await loading
  for (let index = 0; index < rehearsals; index++) {
    port.take({ type: 'COMPONENT', tasks: [{ index, attempt: 1, input: 'text', interactsWith: [] }] })
    await tasks.ended()
    const name = 'parent'
    const entropy = randomBytes(64).toString('base64')
    port.take({ type: 'IDENTITY', id: randomUUID({ disableEntropyCache: true }), name, mac: null, unixMs: Date.now() + 0.5, entropy })
  }
  tasks.setProgram({ program: noProgram, shared: {}, taskTimeoutMs: 1_000 })
  port.mute(false)
  loading = given
  later.push(...waiting)
}

async function noProgram() {
  throw new Error('There is no program yet.')
}

/** What isn't needed any more is not to be copied into every child. */
function collectGarbage() {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
}

const port = openPort(path, receive)
const tasks = createTasks(port)

// Nothing that a program prints may reach the channel, or a file of the guest; it belongs to the task's log.
for (const stream of [process.stdout, process.stderr])
  stream.write = (chunk, encoding, done) => {
    tasks.print(typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('utf8'))
    const callback = typeof encoding === 'function' ? encoding : done
    if (callback) process.nextTick(callback)
    return true
  }
process.exit = tasks.exit
process.on('uncaughtException', tasks.fail)
process.on('unhandledRejection', tasks.fail)

send({ type: 'HELLO', runtime: 'node', version: process.versions.node, libraries: libraries(), protocol: 1 })
