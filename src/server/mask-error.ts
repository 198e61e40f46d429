import { randomUUID } from 'node:crypto'
import { PothosValidationError } from '@pothos/core'
import { GraphQLError, Kind } from 'graphql'
import { limits } from '../../schema/limits.ts'
import { PortolanError } from '../domain/errors.ts'
import { csrfHeader } from './endpoint.ts'
import type { Log } from './log.ts'

/**
 * What a client sees of an error that no payload union carries. A PortolanError keeps its code, remedy and path; what was written for clients
 * passes; everything else is a fault of ours, of which they get a reference to the log and no more.
 */
export function createMaskError(log: Log): (error: unknown) => GraphQLError {
  return (error) => {
    const located = error instanceof GraphQLError ? error : undefined
    const cause = rootCause(error)
    const where = located && { nodes: located.nodes, source: located.source, positions: located.positions, path: located.path }
    if (cause instanceof PortolanError && cause.code !== 'INTERNAL') {
      const { code, retryable, remedy, path } = cause
      return new GraphQLError(cause.message, { ...where, extensions: { code, retryable, remedy, path } })
    }
    if (cause instanceof GraphQLError && isForClients(cause, located)) {
      const extensions = { code: 'INVALID_REQUEST', ...cause.extensions, ...located?.extensions }
      return new GraphQLError(wordier[cause.message] ?? cause.message, { ...where, nodes: located?.nodes ?? cause.nodes, extensions })
    }
    const reference = randomUUID()
    log.error({ reference, err: cause, path: located?.path }, 'An operation failed inside Portolan')
    return new GraphQLError(`Something failed inside Portolan. Its log has the details under reference ${reference}.`, {
      ...where,
      extensions: { code: 'INTERNAL', reference },
    })
  }
}

/** What libraries say too briefly for somebody to act on. */
const wordier: Record<string, string> = {
  'Request body too large': `The request's body has more than ${limits.bodyBytes} bytes, or for one submitJob by an operator ${limits.jobBodyBytes}. Nothing was run; send less, or in several requests.`,
  'Required CSRF header(s) not present': `Without a JSON body, a request needs the header ${csrfHeader} (any value), which no foreign page can send (CSRF). Nothing was run; add it.`,
}

/** Written by us, by the parser, by validation, by Pothos's checks of arguments or by the executor's; not what the executor says of a resolver that broke its promise. */
function isForClients(cause: GraphQLError, located: GraphQLError | undefined): boolean {
  return (
    cause.extensions['code'] !== undefined ||
    cause instanceof PothosValidationError ||
    located?.path === undefined ||
    pointsIntoArgument(cause)
  )
}

/** What the executor says of a resolver points at a field, or nowhere. */
function pointsIntoArgument({ nodes = [] }: GraphQLError): boolean {
  return nodes.length > 0 && nodes.every(({ kind }) => kind !== Kind.FIELD)
}

function rootCause(error: unknown): unknown {
  return error instanceof GraphQLError && error.originalError ? rootCause(error.originalError) : error
}
