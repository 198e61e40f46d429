/**
 * Children that are no virtual machines: each is a server on a Unix socket that speaks the protocol and does with a task what its input says. For faults that a real
 * child does not produce on demand.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { StartedChild } from '../../../src/job-environment/job-environment.ts'

/** What a task's input may be. */
export type Deed =
  | { answer: unknown; afterMs?: number }
  | { fail: string }
  /** Its child is gone. */
  | { die: true }
  /** Dies the first time only. */
  | { dieOnce: true }
  | { hang: true }
  | { say: string }
  | { meet: string; size: number }
  | { tell: number; body: unknown }
  | { hear: true }
  /** Says what is no message. */
  | { babble: true }
  /** Says that another one's task has failed, and answers. */
  | { slander: number }
  /** Comes to a barrier and fails, the first time; then meets there. */
  | { stumbleAt: string; size: number }

interface Task {
  index: number
  attempt: number
  input: Deed
}

export function scriptedChildren(options: { refuseProgram?: string; failForks?: number } = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'portolan-children-'))
  const servers = new Map<string, { server: Server; sockets: Set<Socket> }>()
  const executions: { child: string; index: number }[] = []
  const diedOnce = new Set<number>()
  let forks = 0

  function speak(childId: string, socket: Socket): void {
    const boxes = new Map<number, unknown[]>()
    const hearers = new Map<number, Task>()
    const waiters = new Map<number, Task>()
    const say = (message: object) => socket.write(`${JSON.stringify(message)}\n`)
    const answer = ({ index, attempt }: Task, output: unknown) => say({ type: 'RESULT', index, attempt, output, durationMs: 1 })
    const hear = (task: Task) => {
      const box = boxes.get(task.index)
      if (!box?.length) return void hearers.set(task.index, task)
      answer(task, box.shift())
    }
    const act = (task: Task) => {
      const { index, attempt, input } = task
      if (socket.destroyed) return
      executions.push({ child: childId, index })
      if ('die' in input) return void socket.destroy()
      if ('dieOnce' in input) {
        if (diedOnce.has(index)) return answer(task, 'survived')
        diedOnce.add(index)
        return void socket.destroy()
      }
      if ('fail' in input) say({ type: 'TASK_FAILED', index, attempt, message: input.fail, timedOut: false })
      else if ('answer' in input && input.afterMs !== undefined) setTimeout(() => answer(task, input.answer), input.afterMs)
      else if ('answer' in input) answer(task, input.answer)
      else if ('say' in input) {
        say({ type: 'LOG', index, text: input.say })
        answer(task, null)
      } else if ('meet' in input) {
        waiters.set(index, task)
        say({ type: 'BARRIER', index, name: input.meet, size: input.size })
      } else if ('tell' in input) {
        say({ type: 'SEND', from: index, to: input.tell, body: input.body })
        answer(task, 'told')
      } else if ('hear' in input) hear(task)
      else if ('babble' in input) socket.write('no message\n')
      else if ('slander' in input) {
        say({ type: 'TASK_FAILED', index: input.slander, attempt: 1, message: 'a lie', timedOut: false })
        answer(task, null)
      } else if ('stumbleAt' in input) {
        say({ type: 'BARRIER', index, name: input.stumbleAt, size: input.size })
        if (diedOnce.has(index)) return void waiters.set(index, task)
        diedOnce.add(index)
        say({ type: 'TASK_FAILED', index, attempt, message: 'stumbled', timedOut: false })
      }
    }
    createInterface({ input: socket }).on('line', (line) => {
      const message = JSON.parse(line) as Record<string, unknown> & { type: string }
      if (message.type === 'IDENTITY') say({ type: 'IDENTIFIED' })
      else if (message.type === 'PROGRAM')
        say(options.refuseProgram ? { type: 'PROGRAM_FAILED', message: options.refuseProgram } : { type: 'PROGRAM_READY' })
      else if (message.type === 'COMPONENT') for (const task of message['tasks'] as Task[]) act(task)
      else if (message.type === 'MESSAGE') {
        const to = message['to'] as number
        boxes.set(to, [...(boxes.get(to) ?? []), message['body']])
        const hearer = hearers.get(to)
        if (hearer) {
          hearers.delete(to)
          hear(hearer)
        }
      } else if (message.type === 'BARRIER_OPEN')
        for (const index of message['tasks'] as number[]) {
          answer(waiters.get(index)!, 'met')
          waiters.delete(index)
        }
    })
    socket.on('error', () => {})
  }

  return {
    executions,
    /** Of those that were forked. */
    get forks() {
      return forks
    },
    get alive() {
      return servers.size
    },
    async fork(place: number): Promise<StartedChild & { channel: { path: string } }> {
      if (forks++ < (options.failForks ?? 0)) throw new Error('No room for a child.')
      const id = `child-${forks}-${place}`
      const sockets = new Set<Socket>()
      const server = createServer((socket) => (sockets.add(socket), speak(id, socket)))
      const path = join(directory, `${id}.sock`)
      await new Promise<void>((done) => server.listen(path, done))
      servers.set(id, { server, sockets })
      return { id, uniqueId: id, channel: { path }, name: id, mac: null }
    },
    /** As if its process were killed. */
    kill(childId: string) {
      for (const socket of servers.get(childId)?.sockets ?? []) socket.destroy()
    },
    remove: async (childId: string) => {
      const child = servers.get(childId)
      servers.delete(childId)
      for (const socket of child?.sockets ?? []) socket.destroy()
      await new Promise<void>((done) => (child ? child.server.close(() => done()) : done()))
    },
    [Symbol.dispose]() {
      for (const { server } of servers.values()) server.close()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
