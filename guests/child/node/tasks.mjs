/**
 * Runs tasks in this process: components one after the other, the tasks of one together. A task ends once: with its output, its error, or its time; what it does afterwards counts
 * for nothing.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { format } from 'node:util'
import { describe } from './program.mjs'

/** Characters of a task's log; what comes after them is left out. */
const logLimit = 65_536
/** Logs are sent on while a task runs, but not each line by itself. */
const logEveryMs = 200
/** Bytes of a task's output or of a message, as JSON. */
const valueLimit = 1_048_576

/** Thrown where a task would end the whole runtime. */
export class TaskExit extends Error {
  name = 'TaskExit'
}

export function createTasks(port) {
  let program
  let shared = Object.freeze({})
  let timeoutMs = 0
  /** Components that wait for their turn. */
  const waiting = []
  let busy = false
  let work = Promise.resolve()
  /** By index: those that run. */
  const running = new Map()
  /** By index: what came for a task that waits or runs. */
  const letters = new Map()
  /** Which of several tasks printed or threw; a task that runs alone needs none of this, and asynchronous code is slower with it. */
  const current = new AsyncLocalStorage()

  const json = (value, what) => {
    let text
    try {
      text = JSON.stringify(value) ?? 'null'
    } catch (error) {
      throw new Error(`${what} can't be written as JSON: ${error.message}`)
    }
    // A character takes 3 bytes at most; only what is near the limit has to be measured.
    if (text.length > valueLimit || (text.length > valueLimit / 3 && Buffer.byteLength(text) > valueLimit))
      throw new Error(`${what} is ${Buffer.byteLength(text)} bytes as JSON, more than ${valueLimit}.`)
    return text
  }

  function log(task, text) {
    if (task.logged > logLimit || task.ended) return
    const rest = logLimit - task.logged
    task.logged += text.length
    task.log += text.length > rest ? `${text.slice(0, rest)}…` : text
    if (performance.now() - task.logSentAt < logEveryMs) return
    sendLog(task)
    port.flush()
  }

  function sendLog(task) {
    if (task.log === '') return
    port.post(`{"type":"LOG","index":${task.index},"text":${JSON.stringify(task.log)}}`)
    task.log = ''
    task.logSentAt = performance.now()
  }

  function contextOf(task) {
    return {
      index: task.index,
      shared,
      log: (...args) => log(task, `${format(...args)}\n`),
      barrier(name, size) {
        if (typeof name !== 'string' || name === '' || name.length > 200)
          throw new TypeError("A barrier's name is a text of 1 to 200 characters.")
        if (!Number.isInteger(size) || size < 1) throw new TypeError("A barrier's size is the number of tasks that meet there.")
        return new Promise((open) => {
          task.barriers.set(name, [...(task.barriers.get(name) ?? []), open])
          port.post(`{"type":"BARRIER","index":${task.index},"name":${JSON.stringify(name)},"size":${size}}`)
        })
      },
      async send(to, body) {
        if (!Number.isInteger(to) || to < 0) throw new TypeError('A message is sent to the number of a task.')
        port.post(`{"type":"SEND","from":${task.index},"to":${to},"body":${json(body, 'The message')}}`)
      },
      /** The oldest message, or the oldest of that task: `{ from, body }`. */
      receive(from) {
        const box = letters.get(task.index)
        const at = box.findIndex((letter) => from === undefined || letter.from === from)
        if (at !== -1) return Promise.resolve(box.splice(at, 1)[0])
        return new Promise((take) => task.receivers.push({ from, take }))
      },
    }
  }

  async function run({ index, attempt, input }) {
    const task = { index, attempt, log: '', logged: 0, logSentAt: 0, ended: false, barriers: new Map(), receivers: [], fail: undefined }
    running.set(index, task)
    const began = performance.now()
    task.logSentAt = began
    let timer
    let line
    try {
      const output = await new Promise((done, fail) => {
        task.fail = fail
        timer = setTimeout(() => {
          task.timedOut = true
          fail(new Error(`The task took longer than ${timeoutMs} ms.`))
        }, timeoutMs)
        const call = async () => program(input, contextOf(task))
        call().then(done, fail)
      })
      const text = json(output, 'The output')
      const durationMs = Math.round((performance.now() - began) * 1000) / 1000
      line = `{"type":"RESULT","index":${index},"attempt":${attempt},"output":${text},"durationMs":${durationMs}}`
    } catch (error) {
      const message = JSON.stringify(task.timedOut ? error.message : describe(error, 'program'))
      line = `{"type":"TASK_FAILED","index":${index},"attempt":${attempt},"message":${message},"timedOut":${task.timedOut === true}}`
    }
    clearTimeout(timer)
    sendLog(task)
    task.ended = true
    running.delete(index)
    letters.delete(index)
    port.post(line)
  }

  async function runAll() {
    busy = true
    for (let component = waiting.shift(); component; component = waiting.shift()) {
      port.post(`{"type":"STARTED","indices":[${component.map(({ index }) => index).join()}]}`)
      // Before anything runs: the host has to know what a child was at when it died.
      port.flush()
      if (component.length === 1) await run(component[0])
      else await Promise.all(component.map((task) => current.run(task.index, run, task)))
    }
    busy = false
    port.flush()
  }

  /** Who printed or threw: what the runtime can tell, else the only one that runs. */
  const culprit = () => running.get(current.getStore()) ?? (running.size === 1 ? running.values().next().value : undefined)

  return {
    setProgram(given) {
      program = given.program
      shared = Object.freeze({ ...given.shared })
      timeoutMs = given.taskTimeoutMs
    },
    add(tasks) {
      for (const { index } of tasks) letters.set(index, [])
      waiting.push(tasks)
      if (!busy) work = runAll()
    },
    /** When nothing waits or runs. */
    ended: () => work,
    deliver({ from, to, body }) {
      const task = running.get(to)
      const at = task?.receivers.findIndex((receiver) => receiver.from === undefined || receiver.from === from) ?? -1
      if (at !== -1) task.receivers.splice(at, 1)[0].take({ from, body })
      else letters.get(to)?.push({ from, body })
    },
    openBarrier({ name, tasks }) {
      for (const index of tasks) running.get(index)?.barriers.get(name)?.shift()?.()
    },
    print(text) {
      const task = culprit()
      if (task) log(task, text)
    },
    /** What nobody caught fails the task that it came from. */
    fail(error) {
      culprit()?.fail(error)
    },
    exit(code) {
      throw new TaskExit(`The program called process.exit(${code ?? ''}), which would end the runtime of all tasks.`)
    },
  }
}
