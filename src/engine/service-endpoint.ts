import { once } from 'node:events'
import { createServer } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import * as restate from '@restatedev/restate-sdk'
import type { DurableSteps, DurableWorkflow } from './durable-workflow.ts'
import type { EngineLog } from './engine-log.ts'

const levels = { trace: 'debug', debug: 'debug', info: 'debug', warn: 'warn', error: 'error' } as const

export interface ServiceEndpoint {
  port: number
  close(): Promise<void>
}

/** Serves the workflows to the engine that holds one of the identity keys, over HTTP/2 without TLS: requests are signed, and hold ids only. */
export async function openServiceEndpoint(options: {
  workflows: DurableWorkflow[]
  identityKeys: string[]
  host: string
  /** 0 takes a free one. */
  port: number
  log: EngineLog
}): Promise<ServiceEndpoint> {
  // What breaks off while we end is no news.
  let closing = false
  const handler = restate.createEndpointHandler({
    services: options.workflows.map(asRestateWorkflow),
    identityKeys: options.identityKeys,
    logger: ({ level }, ...message) => options.log(closing ? 'debug' : levels[level], message.map(String).join(' ')),
  })
  const server = createServer(handler)
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.on('sessionError', (error) => options.log('debug', `The engine's connection broke: ${error.message}`))
  server.listen(options.port, options.host)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      closing = true
      const closed = once(server, 'close')
      server.close()
      // A session waits for its streams, and the engine keeps them open: end what carries them.
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

function asRestateWorkflow(workflow: DurableWorkflow) {
  return restate.workflow({
    name: workflow.name,
    handlers: {
      run: async (context: restate.WorkflowContext) => {
        const steps: DurableSteps = {
          // The engine's retries are unlimited, and so are a step's.
          run: async (name, action) => await context.run(name, action, { initialRetryInterval: 100, maxRetryInterval: 2_000 }),
          sleep: async (durationMs) => await context.sleep(durationMs),
        }
        await workflow.run(context.key, steps)
      },
    },
    options: { inactivityTimeout: { minutes: 10 }, abortTimeout: { minutes: 10 }, ingressPrivate: false },
  })
}
