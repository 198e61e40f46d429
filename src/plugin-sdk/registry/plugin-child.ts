/** One running plugin process, seen from the control plane: requests with time-outs and cancelling, and its end. It is never started again: see reconnecting.ts. */
import { fork } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { PluginLog } from '../contract.ts'
import { ProviderError } from '../errors.ts'
import { parseFromPlugin } from './parse-from-plugin.ts'
import { cancelledRecord, errorFromRecord, type ToPlugin } from './plugin-protocol.ts'
import type { Redact } from './redact.ts'

/** A cancelled or overdue request may take so long to come to its end before the process is killed. */
const graceMs = 10_000
/** What the process wrote before its end is there at once; a process that it left behind may hold its output open for ever. */
const lastOutputMs = 500
/** A process that hangs in the kernel, as on storage that does not answer, ends only once the kernel lets go of it. */
const killMs = 10_000
const keptErrorOutputBytes = 4_096
/** The control plane's own secrets and addresses are none of a plugin's business. */
const withheldVariable = /^(PORTOLAN_(?!CACHE$)|DATABASE_|RESTATE_)/

export type PluginRequest =
  | { kind: 'load'; url: string }
  | { kind: 'validate'; options: unknown }
  | { kind: 'connect'; options: unknown; known: boolean }
  | { kind: 'call'; path: string[]; args: unknown[] }

interface Pending {
  resolve(value: unknown): void
  reject(error: ProviderError): void
  /** Set where the process is killed for this request's sake. To the others under way, that is a crash. */
  killedBecause?: ProviderError
}

export interface PluginChild {
  /** Settles once the plugin has answered; rejects with ProviderError, PLUGIN_CRASHED when the process ended first. */
  request(
    request: PluginRequest,
    limits: { timeoutMs: number; signal?: AbortSignal | undefined; graceMs?: number | undefined },
  ): Promise<unknown>
  /** Not answered: see ToPlugin. */
  dieBeforeAnswering(path: string): void
  /** Kills the process and waits for its end, but not for ever. */
  kill(): Promise<void>
  /** Told when the process has ended, before the requests under way reject; at once where it has ended already. */
  onEnd(listener: () => void): void
}

/**
 * @param name how errors call the plugin.
 * @param redact takes the secrets out of what it throws; `log` does so by itself.
 * @param unresponsiveMs a process that is asked for something, and whose event loop gives no sign for so long, is killed: it spins, however long its call may take.
 */
export function startPluginChild(name: string, log: PluginLog, unresponsiveMs: number, redact: Redact): PluginChild {
  const child = fork(join(import.meta.dirname, '../plugin-process.ts'), [], {
    serialization: 'advanced',
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    execArgv: ['--disable-warning=ExperimentalWarning'],
    env: Object.fromEntries(Object.entries(process.env).filter(([variable]) => !withheldVariable.test(variable))),
  })
  const pending = new Map<number, Pending>()
  let lastId = 0
  let errorOutput = ''
  let end: string | undefined
  /** What the process did wrong, where no request is to blame. */
  let fatal: ProviderError | undefined

  // By lines: a secret that came in two pieces would not be known for one.
  if (child.stdout) createInterface({ input: child.stdout }).on('line', (line) => log('debug', line, { stream: 'stdout' }))
  if (child.stderr)
    createInterface({ input: child.stderr }).on('line', (line) => {
      errorOutput = `${errorOutput}${redact(line)}\n`.slice(-keptErrorOutputBytes)
      log('warn', line, { stream: 'stderr' })
    })
  let lastSignOfLife = performance.now()
  const heartbeat = setInterval(() => {
    if (pending.size === 0) lastSignOfLife = performance.now()
    else if (performance.now() - lastSignOfLife > unresponsiveMs) kill(unresponsive(name, unresponsiveMs))
    else send({ kind: 'ping' })
  }, unresponsiveMs / 6).unref()
  const endListeners = new Set<() => void>()
  const onEnd = (how: string) => {
    if (end !== undefined) return
    end = how
    clearInterval(heartbeat)
    for (const listener of endListeners) listener()
    for (const { reject, killedBecause } of pending.values()) reject(killedBecause ?? fatal ?? crashed(name, how, errorOutput))
    pending.clear()
  }
  const howItEnded = (code: number | null, signal: string | null) => (signal ? `was ended by ${signal}` : `ended with exit code ${code}`)
  // `close` comes after the last of its output, which tells why it ended.
  child.once('close', (code, signal) => onEnd(howItEnded(code, signal)))
  child.once('exit', (code, signal) => void setTimeout(() => onEnd(howItEnded(code, signal)), lastOutputMs).unref())
  child.once('error', (error) => onEnd(`could not run: ${error.message}`))
  child.on('message', (said) => {
    lastSignOfLife = performance.now()
    const message = parseFromPlugin(said)
    // It may have been the answer that somebody waits for.
    if (!message) return kill(brokenProtocol(name))
    if (message.kind === 'pong') return
    if (message.kind === 'log') return log(message.level, message.message, message.fields)
    const request = pending.get(message.id)
    pending.delete(message.id)
    if (message.kind === 'settled') request?.resolve(message.value)
    else request?.reject(errorFromRecord(redact(message.error)))
  })
  const send = (message: ToPlugin) => child.send(message, (error) => error && kill())
  const kill = (why?: ProviderError) => {
    fatal ??= why
    child.kill('SIGKILL')
    setTimeout(() => onEnd('did not end though it was killed'), killMs).unref()
  }

  return {
    onEnd: (listener) => void (end === undefined ? endListeners.add(listener) : listener()),
    dieBeforeAnswering: (path) => void send({ kind: 'dieBeforeAnswering', path }),
    kill: () =>
      new Promise((resolve) => {
        if (end !== undefined) return resolve()
        endListeners.add(resolve)
        kill()
      }),
    async request(request, limits) {
      if (end !== undefined) throw crashed(name, end, errorOutput)
      if (limits.signal?.aborted) throw errorFromRecord(cancelledRecord)
      const id = ++lastId
      const what = request.kind === 'call' ? request.path.join('.') : request.kind
      let overdue = false
      let grace: NodeJS.Timeout | undefined
      const stop = (why: ProviderError) => {
        if (end === undefined) send({ kind: 'cancel', id })
        grace ??= setTimeout(() => {
          const request = pending.get(id)
          if (request) request.killedBecause = why
          kill()
        }, limits.graceMs ?? graceMs)
      }
      const onAbort = () =>
        stop(
          errorFromRecord({
            ...cancelledRecord,
            message: `${what} was cancelled, and the plugin ${name} did not stop it in time, so its process was ended.`,
          }),
        )
      const timer = setTimeout(() => {
        overdue = true
        stop(timedOut(name, what, limits.timeoutMs))
      }, limits.timeoutMs)
      limits.signal?.addEventListener('abort', onAbort, { once: true })
      try {
        return await new Promise((resolve, reject) => {
          pending.set(id, { resolve, reject })
          send({ ...request, id })
        })
      } catch (error) {
        throw overdue && error instanceof ProviderError && error.code === 'CANCELLED' ? timedOut(name, what, limits.timeoutMs) : error
      } finally {
        clearTimeout(timer)
        clearTimeout(grace)
        limits.signal?.removeEventListener('abort', onAbort)
      }
    },
  }
}

function timedOut(name: string, what: string, timeoutMs: number): ProviderError {
  return new ProviderError(
    'TIMED_OUT',
    `The plugin ${name} did not answer ${what} within ${timeoutMs / 1000} s; whether it was done is not known.`,
    {
      retryable: true,
      remedy: 'Send the same operation again: it is answered as the first time.',
    },
  )
}

function brokenProtocol(name: string): ProviderError {
  return new ProviderError(
    'PLUGIN_CRASHED',
    `The process of the plugin ${name} sent something that is no message of the registry's, and was ended; whether the call was done is not known.`,
    { retryable: true, remedy: "Send the same operation again; should it last, report it to the plugin's author." },
  )
}

function unresponsive(name: string, forMs: number): ProviderError {
  return new ProviderError(
    'TIMED_OUT',
    `The process of the plugin ${name} gave no sign of life for ${forMs / 1000} s and was ended; whether the call was done is not known.`,
    { retryable: true, remedy: 'Send the same operation again: the plugin is started anew and answers as the first time.' },
  )
}

function crashed(name: string, how: string, errorOutput: string): ProviderError {
  const lastWords = errorOutput.split('\n').find((line) => /^\s*(\w*Error|Uncaught)\b/.test(line))
  return new ProviderError(
    'PLUGIN_CRASHED',
    `The process of the plugin ${name} ${how}${lastWords ? ` (${lastWords.trim().slice(0, 300)})` : ''}; whether the call was done is not known.`,
    {
      retryable: true,
      remedy: 'Send the same operation again: the plugin is started anew and answers as the first time.',
    },
  )
}
