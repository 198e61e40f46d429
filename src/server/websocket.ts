import type { IncomingMessage, Server } from 'node:http'
import { GraphQLError, type ExecutionArgs } from 'graphql'
import { CloseCode } from 'graphql-ws'
import { useServer } from 'graphql-ws/use/ws'
import { WebSocketServer } from 'ws'
import { limits } from '../../schema/limits.ts'
import type { Actor } from '../workflows/operations.ts'
import { endpoint, pathOf } from './endpoint.ts'
import type { createGraphqlHandler } from './graphql-handler.ts'
import type { TokenSessions } from './token-sessions.ts'

type GraphqlHandler = ReturnType<typeof createGraphqlHandler>
type EnvelopedArgs = ExecutionArgs & Pick<ReturnType<GraphqlHandler['getEnveloped']>, 'execute' | 'subscribe'>

const mostOperations = 100
const goingAwayMs = 1_000

/**
 * GraphQL over WebSockets (protocol `graphql-transport-ws`), with the parser, limits, masking and context of HTTP. The token comes with the first
 * message (`connectionParams: { Authorization: 'Bearer …' }`) or as a header of the upgrade; a socket without one is closed with 4403,
 * and so is one whose token is revoked.
 */
export function serveWebSockets(server: Server, graphql: GraphqlHandler, sessions: TokenSessions): { stop(): Promise<void> } {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: limits.bodyBytes })
  server.on('upgrade', (request, socket, head) => {
    // Nobody else listens any more: without this, a client that resets the connection ends the process.
    socket.on('error', () => socket.destroy())
    // Nobody closes it either: a client that keeps its half would keep the server from stopping.
    if (pathOf(request) !== endpoint) return void socket.once('finish', () => socket.destroy()).end('HTTP/1.1 404 Not Found\r\n\r\n')
    sockets.handleUpgrade(request, socket, head, (webSocket) => sockets.emit('connection', webSocket, request))
  })
  const actors = new WeakMap<IncomingMessage, Actor>()

  const serving = useServer(
    {
      connectionInitWaitTimeout: 5_000,
      onConnect: async ({ connectionParams, extra: { request, socket } }) => {
        const session = await sessions.open(
          connectionParams?.['Authorization'] ?? connectionParams?.['authorization'] ?? request.headers.authorization,
          () => {
            socket.close(CloseCode.Forbidden, 'The token was revoked')
            setTimeout(() => socket.terminate(), goingAwayMs).unref()
          },
        )
        if (!session) return false
        if (socket.readyState === socket.CLOSED) session.forget()
        else socket.once('close', session.forget)
        actors.set(request, session.actor)
        return true
      },
      onSubscribe: async ({ extra: { request }, subscriptions }, _id, params) => {
        if (Object.keys(subscriptions).length > mostOperations) return [tooMany()]
        const actor = actors.get(request)
        const { schema, parse, validate, contextFactory, execute, subscribe } = graphql.getEnveloped({ req: request, params, actor })
        try {
          const document = parse(params.query)
          const errors = validate(schema, document)
          if (errors.length > 0) return errors as GraphQLError[]
          const { operationName, variables: variableValues } = params
          return {
            schema,
            document,
            operationName,
            variableValues,
            contextValue: await contextFactory(),
            execute,
            subscribe,
          } as EnvelopedArgs
        } catch (error) {
          if (error instanceof GraphQLError) return [error]
          throw error
        }
      },
      execute: (args) => (args as unknown as EnvelopedArgs).execute(args),
      subscribe: (args) => (args as unknown as EnvelopedArgs).subscribe(args),
    },
    sockets,
  )
  return {
    async stop() {
      // Clients are told to go (1001); one that does not answer is cut off.
      const patience = setTimeout(() => sockets.clients.forEach((client) => client.terminate()), goingAwayMs)
      await serving.dispose()
      clearTimeout(patience)
    },
  }
}

function tooMany(): GraphQLError {
  return new GraphQLError(
    `This connection has ${mostOperations} operations open, and no more are allowed. End one, or open another connection.`,
    {
      extensions: { code: 'TOO_MANY_OPERATIONS' },
    },
  )
}
