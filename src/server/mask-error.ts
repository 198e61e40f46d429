import { randomUUID } from 'node:crypto'
import { GraphQLError } from 'graphql'
import { PortolanError } from '../domain/errors.ts'
import type { Log } from './log.ts'

/**
 * What a client sees of an error that no payload union carries. A PortolanError keeps its code, remedy and path; a GraphQLError was written for
 * clients; everything else is a fault of ours, of which they get a reference to the log and no more.
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
    if (cause instanceof GraphQLError) {
      const extensions = { code: 'INVALID_INPUT', ...cause.extensions, ...located?.extensions }
      return new GraphQLError(cause.message, { ...where, nodes: located?.nodes ?? cause.nodes, extensions })
    }
    const reference = randomUUID()
    log.error({ reference, err: cause, path: located?.path }, 'An operation failed inside Portolan')
    return new GraphQLError(`Something failed inside Portolan. Its log has the details under reference ${reference}.`, {
      ...where,
      extensions: { code: 'INTERNAL', reference },
    })
  }
}

function rootCause(error: unknown): unknown {
  return error instanceof GraphQLError && error.originalError ? rootCause(error.originalError) : error
}
