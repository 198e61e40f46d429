/**
 * Runs in a parent VM and, after a fork, in its children: the runtime that is warmed once, and in which every task runs. Speaks the messages of
 * src/transfer/child-messages.ts over the port that PORTOLAN_CHILD_PORT names.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { openIdentity } from './identity.mjs'
import { libraries } from './libraries.mjs'
import { openPort } from './port.mjs'
import { describe, load } from './program.mjs'
import { takeOverRandomness } from './randomness.mjs'
import { createTasks } from './tasks.mjs'

const { PORTOLAN_CHILD_PORT: path, PORTOLAN_IDENTITY: identityDirectory, PORTOLAN_PROGRAMS: directory } = process.env

takeOverRandomness()
const takeIdentity = openIdentity(identityDirectory)
const send = (message) => {
  port.post(JSON.stringify(message))
  port.flush()
}

const answers = {
  async WARM_UP({ program }) {
    const began = performance.now()
    try {
      const exported = program === null ? undefined : await load('warm-up', program, directory)
      const ready = exported?.default ?? exported
      if (typeof ready === 'function') await ready()
    } catch (error) {
      return send({ type: 'WARM_UP_FAILED', message: describe(error, 'warm-up') })
    }
    collectGarbage()
    send({ type: 'READY', libraries: libraries(), warmUpMs: Math.round(performance.now() - began) })
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

/** Of what has to be waited for, one after the other; the rest at once. */
let before
function receive(message) {
  const answer = answers[message.type]
  const given = before ? before.then(() => answer(message)) : answer(message)
  if (!(given instanceof Promise)) return
  const done = given.then(() => {
    if (before === done) before = undefined
  })
  before = done
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
