/** The operator's commands in the source guest. Each runs in a process group of its own, which ends with its time, and with the agent. */
import { spawn, type ChildProcess } from 'node:child_process'
import type { ControlRequests } from '../../transfer/control-protocol.ts'

type Params = ControlRequests['hook.run'][0]
type Result = ControlRequests['hook.run'][1]

export interface HookCommands {
  /** The same id again: joins the one that runs, or gets its result; it is never run twice. */
  run(params: Params): Promise<Result>
  /** Ends all that run. */
  close(): void
}

/** Of each command, the end of what it wrote. */
const keptBytes = 16_384
/** A grandchild may hold the output open for ever; once the command itself has ended, so long is waited for what is still in the pipe. */
const drainMs = 200

export function createHookCommands(): HookCommands {
  const results = new Map<string, Promise<Result>>()
  const running = new Set<ChildProcess>()

  function start({ command, timeoutMs, environment }: Params): Promise<Result> {
    const [program = '', ...args] = command
    const { promise, resolve } = Promise.withResolvers<Result>()
    let kept = Buffer.alloc(0)
    let outputBytes = 0
    let timedOut = false
    const child = spawn(program, args, {
      cwd: '/',
      // The agent's own environment is set for the Node that it brought along.
      env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', LC_ALL: 'C', ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    running.add(child)
    const timer = setTimeout(() => {
      timedOut = true
      endGroup(child)
    }, timeoutMs)
    const end = (exitCode: number | null, said = '') => {
      clearTimeout(timer)
      running.delete(child)
      child.stdout.destroy()
      child.stderr.destroy()
      resolve({ exitCode, timedOut, output: kept.toString('utf8') + said, outputBytes: outputBytes + said.length })
    }
    const keep = (chunk: Buffer) => {
      outputBytes += chunk.length
      kept = Buffer.concat([kept, chunk]).subarray(-keptBytes)
    }
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    // As a shell answers for a program that can't be started.
    child.once('error', (error) => end(127, `${error.message}\n`))
    child.once('exit', (code) => {
      const closed = new Promise((done) => child.once('close', done))
      const drained = new Promise((done) => setTimeout(done, drainMs))
      void Promise.race([closed, drained]).then(() => end(timedOut ? null : code))
    })
    return promise
  }

  return {
    run(params) {
      const known = results.get(params.hookId)
      if (known) return known
      const result = start(params)
      results.set(params.hookId, result)
      return result
    },
    close() {
      for (const child of running) endGroup(child)
    },
  }
}

/** With all that it started, unless that made a group of its own. */
function endGroup(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    // It has ended already.
  }
}
