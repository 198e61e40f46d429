/**
 * A job's tasks may be far longer than what else is sent. So a body beyond the common limit is read for operators only, a few at a time, and only for one `submitJob`, which
 * is known once it is read.
 */
import type { IncomingMessage } from 'node:http'
import { GraphQLError, Kind, parse, type DefinitionNode } from 'graphql'
import type { Plugin } from 'graphql-yoga'
import { limits } from '../../schema/limits.ts'
import type { Actor } from '../workflows/operations.ts'

const mutation = 'submitJob'
/** Each takes several times its length while it is read; the others wait. */
const mostAtOnce = 2

/** By what it says of itself: one that doesn't tell its length has the common limit. */
export function mayBeLarge(request: IncomingMessage, actor: Actor): boolean {
  return actor.role !== 'VIEWER' && Number(request.headers['content-length'] ?? 0) > limits.bodyBytes
}

/** Runs what is given, in order, at most two at once. */
export function createTurns(): <Result>(work: () => Promise<Result>) => Promise<Result> {
  const waiting: (() => void)[] = []
  let free = mostAtOnce
  return async (work) => {
    if (free > 0) free--
    else await new Promise<void>((mine) => waiting.push(mine))
    try {
      return await work()
    } finally {
      const next = waiting.shift()
      if (next) next()
      else free++
    }
  }
}

/** Refuses what is too long for what it is, before anything of it runs. */
export function onlySubmitJob(): Plugin {
  return {
    onParams({ params }) {
      if (isSubmitJob(params.query)) return
      throw new GraphQLError('Request body too large', { extensions: { http: { status: 413 }, code: 'REQUEST_ENTITY_TOO_LARGE' } })
    },
  }
}

function isSubmitJob(query: string | undefined): boolean {
  if (query === undefined) return false
  try {
    // A short document: all that is long is in the variables.
    const { definitions } = parse(query, { maxTokens: limits.tokens })
    const operations = definitions.filter(({ kind }) => kind !== Kind.FRAGMENT_DEFINITION)
    return operations.length > 0 && operations.every(isOneSubmitJob)
  } catch {
    return false // what can't be parsed asks for nothing
  }
}

function isOneSubmitJob(definition: DefinitionNode): boolean {
  if (definition.kind !== Kind.OPERATION_DEFINITION) return false
  const [selection, ...others] = definition.selectionSet.selections
  return definition.operation === 'mutation' && others.length === 0 && selection?.kind === Kind.FIELD && selection.name.value === mutation
}
