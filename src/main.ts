/**
 * The control plane: `npm start`, or `node src/main.ts [--config portolan.config.ts] [--json]`.
 *
 * Composition root, to be read from top to bottom. What is opened is closed in the opposite order, at SIGTERM, SIGINT or a failed start. With --json standard output is one line,
 * `{"ready": {"url", "token"}}`; the log is JSON lines on standard error.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import pino from 'pino'
import { artifacts } from '../setup/artifacts.ts'
import { createAgentGateway } from './agent-gateway/gateway.ts'
import { keepPorts } from './agent-gateway/kept-ports.ts'
import { loadConfiguration } from './configuration.ts'
import { createChangeFeed } from './database/change-feed.ts'
import { openDatabase } from './database/client.ts'
import { lockDataDirectory } from './database/data-directory-lock.ts'
import { openPluginRegistry } from './plugin-sdk/registry/plugin-registry.ts'
import { forbidCoreDumps } from './secrets/forbid-core-dumps.ts'
import { openSealKey } from './secrets/seal.ts'
import { createApiServer } from './server/create-server.ts'
import { ensureFirstToken } from './server/first-token.ts'
import { createAuthorityStore } from './workflows/authority-store.ts'
import { createWorkflows } from './workflows/create-workflows.ts'
import { stallMsFor } from './workflows/migration-settings.ts'
import { requireSameSealKey } from './workflows/require-same-seal-key.ts'

const { values: options } = parseArgs({
  options: { config: { type: 'string', default: 'portolan.config.ts' }, json: { type: 'boolean', default: false } },
})
const logger = pino({ base: null }, pino.destination(2))
const log = (level: 'debug' | 'info' | 'warn' | 'error', message: string, fields: object = {}) => logger[level](fields, message)
const closing: (() => unknown)[] = []

try {
  const { url, token } = await start()
  let stopping: Promise<void> | null = null
  // A terminal's Ctrl-C comes twice: by itself, and from whoever started this.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void (stopping ??= stop(0)))
  if (options.json) process.stdout.write(`${JSON.stringify({ ready: { url, token } })}\n`)
  else if (token === null) process.stdout.write(`Portolan is ready. GraphiQL and API: ${url}\n`)
  else
    process.stdout.write(
      `Portolan is ready. API: ${url}\nAdministrator's token, shown this once: ${token}\nGraphiQL, with it: ${url}#token=${token}\n`,
    )
} catch (error) {
  process.stderr.write(`portolan: ${sentence(error)}\n`)
  await stop(1)
}

async function start(): Promise<{ url: string; token: string | null }> {
  const dumpable = forbidCoreDumps()
  if (dumpable) log('warn', `A crash may leave credentials in a core file: ${dumpable}`)
  const configuration = await loadConfiguration(options.config)
  const { dataDirectory } = configuration

  const unlock = await lockDataDirectory(dataDirectory)
  closing.push(unlock)
  const sealKey = await openSealKey({ dataDirectory, env: process.env })
  const plugins = await openPluginRegistry(configuration.plugins, { log, directory: configuration.directory })
  closing.push(() => plugins.close())

  const database = await openDatabase({ url: process.env['DATABASE_URL'], dataDirectory })
  closing.push(() => database.close())
  await requireSameSealKey(database, sealKey)
  const changes = await createChangeFeed(database, { onError: (error) => log('error', 'Changes could not be read', { err: error }) })
  closing.push(() => changes.close())

  const { listen, advertise, lostAfterMs } = configuration.agents
  const gateway = await createAgentGateway({
    listen: await keepPorts(join(dataDirectory, 'agent-ports.json'), listen),
    relayListen: await keepPorts(
      join(dataDirectory, 'relay-ports.json'),
      listen.map(({ host }) => ({ host, port: 0 })),
    ),
    authorityStore: createAuthorityStore(database),
    sealKey,
    log,
  })
  closing.push(() => gateway.close())

  const workflows = await createWorkflows({
    database,
    gateway,
    plugins,
    sealKey,
    artifacts: artifacts(),
    engine: configuration.engine,
    dataDirectory,
    advertise,
    webhookAllow: configuration.webhooks.allow,
    timings: { lostMs: lostAfterMs, stallMs: stallMsFor(lostAfterMs) },
    log,
  })
  closing.push(() => workflows.close())

  const server = await createApiServer({
    ...configuration.api,
    db: database,
    operations: workflows.operations,
    audit: workflows.audit,
    changes,
    plugins,
    log: logger,
    isReady: () => workflows.isReady(),
  })
  closing.push(() => server.stop())
  return { url: server.url, token: await ensureFirstToken(database, workflows.audit) }
}

/** What failed and, where it is known, what to do about it: on one line, however many the cause has. */
function sentence(error: unknown): string {
  const { message, remedy } = startFailure(error)
  const line = [message, remedy].join(' ').replace(/\s+/g, ' ').trim()
  return line.endsWith('.') ? line : `${line}.`
}

function startFailure(error: unknown): { message: string; remedy?: string } {
  if (!(error instanceof Error)) return { message: String(error) }
  const { syscall, code, address, port } = error as NodeJS.ErrnoException & { address?: string; port?: number }
  if (syscall !== 'listen') return error
  const why = code === 'EADDRINUSE' ? 'is in use by another program' : `can't be listened on (${code})`
  return {
    message: `The address ${address}:${port} ${why}.`,
    remedy: 'Choose another one in the configuration (api.port, api.host, agents.listen).',
  }
}

async function stop(code: number) {
  for (const close of closing.toReversed()) {
    try {
      await close()
    } catch (error) {
      log('error', 'While stopping', { err: error })
      code = 1
    }
  }
  process.exit(code)
}
