/**
 * The Restate server as a child process on loopback. Its ports are found in its log; it dies with us, so that the lock on its data is free for the next start; when
 * it dies alone it is started again with back-off, and when it lives and stands still it is killed for that.
 *
 *   starting -> ready -> (died -> starting ...) -> stopped
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, mkdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { EngineLog } from './engine-log.ts'

export interface EngineAddresses {
  ingressUrl: string
  adminUrl: string
}

export interface EmbeddedServer {
  /** Of the process that lives now; waits while there is none. */
  addresses(signal: AbortSignal): Promise<EngineAddresses>
  /** The child's process id, or null while there is none. */
  readonly processId: number | null
  stop(): Promise<void>
}

const startTimeoutMs = 60_000
const stopTimeoutMs = 15_000
const firstRestartDelayMs = 100
const maxRestartDelayMs = 10_000
const healthPeriodMs = 5_000
const healthTimeoutMs = 4_000
const maxUnansweredChecks = 6

const settings = {
  RESTATE_NODE_NAME: 'embedded',
  RESTATE_BIND_IP: '127.0.0.1',
  RESTATE_USE_RANDOM_PORTS: 'true',
  RESTATE_LISTEN_MODE: 'tcp',
  RESTATE_DISABLE_TELEMETRY: 'true',
  RESTATE_LOG_FORMAT: 'json',
  RESTATE_LOG_FILTER: 'warn,restate=info',
  RESTATE_ADMIN__DISABLE_WEB_UI: 'true',
  RESTATE_SHUTDOWN_TIMEOUT: '10s',
  RESTATE_DEFAULT_NUM_PARTITIONS: '4',
  RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE: '128 MiB',
  RESTATE_WORKER__INVOKER__MEMORY_LIMIT: '128 MiB',
  RESTATE_WORKER__DATA_SERVICE_MEMORY_LIMIT: '32 MiB',
  RESTATE_BIFROST__RECORD_CACHE_MEMORY_SIZE: '16 MiB',
  RESTATE_ADMIN__QUERY_ENGINE__MEMORY_SIZE: '64 MiB',
  RESTATE_DEFAULT_RETRY_POLICY__INITIAL_INTERVAL: '50ms',
  RESTATE_DEFAULT_RETRY_POLICY__MAX_INTERVAL: '1s',
  RESTATE_DEFAULT_RETRY_POLICY__MAX_ATTEMPTS: 'unlimited',
} as const

/** `onReady` is called for each process that became ready, so that the service is registered with it. Throws when the first one doesn't get that far. */
export async function startEmbeddedServer(options: {
  directory: string
  identityKeyPath: string
  log: EngineLog
  onReady: (addresses: EngineAddresses) => Promise<void>
}): Promise<EmbeddedServer> {
  const binary = serverBinary()
  mkdirSync(options.directory, { recursive: true, mode: 0o700 })
  const spillDirectory = join(options.directory, '..', 'spill')
  const first = Promise.withResolvers<void>()
  let current: EngineAddresses | null = null
  let child: ChildProcess | null = null
  const stopped = new AbortController()

  /** Resolves when a process that had become ready has ended. */
  async function runOnce(): Promise<true> {
    // A killed server leaves its temporary files, and nobody else's are in here.
    rmSync(spillDirectory, { recursive: true, force: true })
    mkdirSync(spillDirectory, { mode: 0o700 })
    child = spawnServer(binary, { ...options, spillDirectory })
    const mine = child
    const exit = once(mine, 'exit').then(([code, signal]) => `exit code ${code}, signal ${signal}`)
    exit.catch(() => {})
    let watch: NodeJS.Timeout | undefined
    try {
      const addresses = await Promise.race([
        readAddresses(mine, options.log),
        exit.then((how) =>
          Promise.reject(new Error(`The embedded engine ended before it was ready (${how}). ${lockHint(options.directory)}`)),
        ),
        rejectAfter(startTimeoutMs, `The embedded engine was not ready within ${startTimeoutMs / 1000} s.`, stopped.signal),
      ])
      await waitForHealth(addresses, AbortSignal.any([stopped.signal, AbortSignal.timeout(startTimeoutMs)]))
      await options.onReady(addresses)
      current = addresses
      first.resolve()
      watch = killWhenUnanswering(mine, addresses, options.log)
      await exit
      return true
    } finally {
      clearInterval(watch)
      current = null
      child = null
      if (mine.exitCode === null && mine.signalCode === null) mine.kill('SIGKILL')
      await exit.catch(() => {})
    }
  }

  const loop = (async () => {
    for (let delayMs = firstRestartDelayMs; !stopped.signal.aborted; delayMs = Math.min(delayMs * 2, maxRestartDelayMs)) {
      let wasReady = false
      try {
        wasReady = await runOnce()
      } catch (error) {
        first.reject(error)
        if (!stopped.signal.aborted) options.log('error', error instanceof Error ? error.message : String(error))
      }
      if (stopped.signal.aborted) return
      if (wasReady) delayMs = firstRestartDelayMs
      options.log('warn', `The embedded engine ended; it is started again in ${delayMs} ms. Workflows go on where they were.`)
      await sleep(delayMs, stopped.signal)
    }
  })()

  async function stop(): Promise<void> {
    const last = child
    last?.kill('SIGTERM')
    const kill = setTimeout(() => last?.kill('SIGKILL'), stopTimeoutMs)
    stopped.abort()
    await loop
    clearTimeout(kill)
  }

  try {
    await first.promise
  } catch (error) {
    await stop()
    throw error
  }
  return {
    async addresses(signal) {
      for (;;) {
        if (current) return current
        signal.throwIfAborted()
        await sleep(50, signal)
      }
    },
    get processId() {
      return child?.pid ?? null
    },
    stop,
  }
}

/** The server's binary comes as an optional dependency for each platform; its wrapper package isn't used, since it runs a script of its own. */
function serverBinary(): string {
  const name = `@restatedev/restate-server-${process.platform}-${process.arch}`
  try {
    const path = join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), 'bin', 'restate-server')
    accessSync(path, constants.X_OK)
    return path
  } catch (error) {
    throw new Error(
      `The embedded engine is not installed for ${process.platform}-${process.arch} (package ${name}): run npm ci, or give the URLs of a Restate server of yours in the configuration's "engine".`,
      { cause: error },
    )
  }
}

function spawnServer(binary: string, paths: { directory: string; identityKeyPath: string; spillDirectory: string }): ChildProcess {
  // Without a parent-death signal the server would outlive a killed control plane, and keep the lock on its data. It loses nothing by a kill, and a
  // slow end of it would be in the way of the next start.
  const linux = process.platform === 'linux'
  return spawn(linux ? 'setpriv' : binary, linux ? ['--pdeathsig', 'KILL', '--', binary] : [], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      ...settings,
      TMPDIR: paths.spillDirectory,
      RESTATE_BASE_DIR: paths.directory,
      RESTATE_WORKER__INVOKER__REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE: paths.identityKeyPath,
    },
  })
}

interface LogLine {
  level?: string
  fields?: { message?: string }
  message?: string
  span?: { server_name?: string; 'server.port'?: string | number }
}

function readAddresses(child: ChildProcess, log: EngineLog): Promise<EngineAddresses> {
  const found = Promise.withResolvers<EngineAddresses>()
  const ports = new Map<string, number>()
  child.on('error', (error) => found.reject(new Error(`The embedded engine could not be started: ${error.message}`)))
  const read = (text: string) => {
    const line = parseLine(text)
    if (!line) return log('warn', `engine: ${text}`)
    const { span } = line
    if (span?.server_name && span['server.port']) ports.set(span.server_name, Number(span['server.port']))
    const ingress = ports.get('http-ingress-server')
    const admin = ports.get('admin-api-server')
    if (ingress && admin) found.resolve({ ingressUrl: `http://127.0.0.1:${ingress}`, adminUrl: `http://127.0.0.1:${admin}` })
    const level = line.level === 'ERROR' ? 'error' : line.level === 'WARN' ? 'warn' : 'debug'
    log(level, `engine: ${line.fields?.message ?? line.message ?? text}`)
  }
  createInterface({ input: child.stdout! }).on('line', read)
  createInterface({ input: child.stderr! }).on('line', read)
  return found.promise
}

function parseLine(text: string): LogLine | null {
  try {
    return JSON.parse(text) as LogLine
  } catch {
    return null
  }
}

async function waitForHealth(addresses: EngineAddresses, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted()
    if (await isHealthy(addresses, signal)) return
    await sleep(50, signal)
  }
}

async function isHealthy({ ingressUrl, adminUrl }: EngineAddresses, signal: AbortSignal): Promise<boolean> {
  const answers = await Promise.allSettled([fetch(`${ingressUrl}/restate/health`, { signal }), fetch(`${adminUrl}/health`, { signal })])
  return answers.every((answer) => answer.status === 'fulfilled' && answer.value.ok)
}

/** Unanswered checks are counted, not time: a control plane that itself stood still has missed one check by that, however long it was. */
function killWhenUnanswering(child: ChildProcess, addresses: EngineAddresses, log: EngineLog): NodeJS.Timeout {
  let unanswered = 0
  const check = async () => {
    unanswered = (await isHealthy(addresses, AbortSignal.timeout(healthTimeoutMs))) ? 0 : unanswered + 1
    // A process that has ended meanwhile takes no signal any more.
    if (unanswered === maxUnansweredChecks && child.kill('SIGKILL'))
      log('warn', `The embedded engine stood still: it left ${unanswered} health checks in a row unanswered, and was killed.`)
  }
  return setInterval(() => void check(), healthPeriodMs)
}

function lockHint(directory: string): string {
  return `Another control plane may be using ${directory}; its log above says more.`
}

async function sleep(durationMs: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((done) => {
    const timer = setTimeout(done, durationMs)
    signal.addEventListener('abort', () => (clearTimeout(timer), done()), { once: true })
  })
}

async function rejectAfter(durationMs: number, message: string, signal: AbortSignal): Promise<never> {
  await sleep(durationMs, signal)
  throw new Error(message)
}
