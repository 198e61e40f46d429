import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { sql } from 'drizzle-orm'
import type { Changes, Context, Plugins } from '../../schema/context.ts'
import type { Database } from '../database/client.ts'
import { apiTokens } from '../database/tables/api-token.ts'
import type { Operations } from '../workflows/operations.ts'
import { createAuthenticate } from './authenticate.ts'
import { answerWithPage, asksForPage } from './graphiql-page.ts'
import { endpoint, pathOf } from './endpoint.ts'
import { createGraphqlHandler } from './graphql-handler.ts'
import { createTurns, mayBeLarge } from './large-bodies.ts'
import type { Log } from './log.ts'
import { createMetrics } from './metrics.ts'
import { cutOff, isStream, refuse, say } from './responses.ts'
import { createTokenSessions } from './token-sessions.ts'
import { serveWebSockets } from './websocket.ts'

export interface ApiServerOptions {
  db: Database
  operations: Operations
  changes: Changes
  plugins: Plugins
  audit: Context['audit']
  log: Log
  /** An address of this machine; anything but loopback makes the API reachable from outside, without TLS of its own. */
  host: string
  /** 0 takes a free one. */
  port: number
  /** Besides the database, what has to work before /ready says so. */
  isReady?: () => Promise<boolean>
}

export interface ApiServer {
  /** Of the GraphQL endpoint, and of GraphiQL in a browser. */
  url: string
  /** Takes no new requests, breaks subscriptions off (a client that redials meets the next server), lets the rest end, and closes. */
  stop(): Promise<void>
}

const drainMs = 5_000

/** Serves the API over HTTP, server-sent events and WebSockets. @throws the error of listen, such as EADDRINUSE. */
export async function createApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const { db, operations, changes, plugins, audit, log, host, port } = options
  const metrics = createMetrics()
  const sessions = createTokenSessions(createAuthenticate(db), changes, (error) =>
    log.error({ err: error }, 'A token could not be looked up'),
  )
  const services = { db, operations, changes, plugins, audit }
  const graphql = createGraphqlHandler({ services, metrics, log })
  const largeGraphql = createGraphqlHandler({ services, metrics, log, large: true })
  const inTurn = createTurns()
  const open = new Set<ServerResponse>()
  let stopping = false

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pathname = pathOf(request)
    if (pathname === null) return say(response, 400, `The request's path is none; the API is at ${endpoint}.`)
    if (pathname === '/health') return say(response, 200, 'ok')
    if (pathname === '/ready') return (await isReady()) ? say(response, 200, 'ready') : say(response, 503, 'not ready')
    if (pathname === '/' && asksForPage(request)) return void response.writeHead(302, { location: endpoint }).end()
    if (pathname === endpoint && asksForPage(request)) return answerWithPage(request, response)
    const session = await sessions.open(request.headers.authorization, () => cutOff(request, response))
    if (!session) return refuse(response)
    response.once('close', session.forget)
    const { actor } = session
    if (pathname === '/metrics') return void response.writeHead(200, { 'content-type': metrics.contentType }).end(await metrics.text())
    if (pathname === endpoint && mayBeLarge(request, actor)) return inTurn(async () => largeGraphql(request, response, { actor }))
    if (pathname === endpoint) return graphql(request, response, { actor })
    say(response, 404, `There is nothing at ${pathname}; the API is at ${endpoint}.`)
  }

  async function isReady(): Promise<boolean> {
    if (stopping) return false
    try {
      await db
        .select({ one: sql`1` })
        .from(apiTokens)
        .limit(1)
      return (await options.isReady?.()) ?? true
    } catch (error) {
      log.warn({ err: error }, 'Not ready')
      return false
    }
  }

  const server = createServer({ requestTimeout: 30_000 }, (request, response) => {
    open.add(response)
    response.once('close', () => {
      open.delete(response)
      metrics.countResponse(response.statusCode)
      if (stopping) server.closeIdleConnections()
    })
    if (stopping) response.setHeader('connection', 'close')
    answer(request, response).catch((error: unknown) => {
      log.error({ err: error }, 'A request failed inside Portolan')
      if (response.headersSent) response.destroy()
      else say(response, 500, 'Something failed inside Portolan; its log says what.')
    })
  })
  const webSockets = serveWebSockets(server, graphql, sessions)

  await new Promise<void>((listening, failed) => {
    server.once('error', failed)
    server.listen(port, host, listening)
  })
  const { address, port: actualPort, family } = server.address() as AddressInfo

  async function stop(): Promise<void> {
    if (stopping) return
    stopping = true
    sessions.close()
    const closed = new Promise((done) => server.close(done))
    await webSockets.stop()
    for (const response of open) if (isStream(response)) response.destroy()
    const patience = setTimeout(() => server.closeAllConnections(), drainMs)
    await closed
    clearTimeout(patience)
    await graphql.dispose()
    await largeGraphql.dispose()
  }
  return { url: `http://${family === 'IPv6' ? `[${address}]` : address}:${actualPort}${endpoint}`, stop }
}
