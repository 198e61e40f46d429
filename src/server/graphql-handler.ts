import { useCSRFPrevention } from '@graphql-yoga/plugin-csrf-prevention'
import { createYoga } from 'graphql-yoga'
import type { Context } from '../../schema/context.ts'
import { schema } from '../../schema/index.ts'
import { limits } from '../../schema/limits.ts'
import type { Actor } from '../workflows/operations.ts'
import { auditRefusedRequests } from './audit-refused-requests.ts'
import { csrfHeader, endpoint } from './endpoint.ts'
import { onlySubmitJob } from './large-bodies.ts'
import type { Log } from './log.ts'
import { createMaskError } from './mask-error.ts'
import type { Metrics } from './metrics.ts'
import { operationLimits } from './operation-limits.ts'

export type GraphqlServices = Omit<Context, 'actor' | 'begun'>

/** GraphQL over HTTP and server-sent events. Whoever calls it has authenticated the request, and hands the actor over. `large`: for bodies beyond the common limit. */
export function createGraphqlHandler(options: { services: GraphqlServices; metrics: Metrics; log: Log; large?: boolean }) {
  const { services, metrics, log, large = false } = options
  return createYoga<{ actor: Actor }, Context>({
    schema,
    context: ({ actor }) => ({ ...services, actor, begun: new Set() }),
    graphqlEndpoint: endpoint,
    plugins: [
      ...(large ? [onlySubmitJob()] : []),
      auditRefusedRequests(),
      ...operationLimits(),
      metrics.plugin,
      useCSRFPrevention({ requestHeaders: [csrfHeader] }),
    ],
    maskedErrors: { maskError: createMaskError(log) },
    maxRequestBodySize: large ? limits.jobBodyBytes : limits.bodyBytes,
    cors: false,
    graphiql: false,
    landingPage: false,
    multipart: false,
    batching: false,
    // maskError logs what is ours to know; the rest are clients' mistakes.
    logging: { debug() {}, info() {}, warn() {}, error() {} },
  })
}
