import type { ExecutionArgs, GraphQLError } from 'graphql'
import { isAsyncIterable, type Plugin } from 'graphql-yoga'
import type { Context } from '../../schema/context.ts'
import { subjectIn } from '../../schema/subject-in.ts'
import { sentInputs } from './sent-inputs.ts'

/**
 * Mutations that are refused as a whole, because their variables do not fit or because they ask for too much, never reach their fields, where the others are put into the audit
 * trail, and neither does one with an argument that the executor refuses; this does it for them. A document that is no valid GraphQL asks for nothing, and is not kept.
 */
export function auditRefusedRequests(): Plugin<Context> {
  return {
    onExecute: ({ args }) => ({
      onExecuteDone: async ({ result }) => {
        const errors = isAsyncIterable(result) ? [] : (result.errors ?? [])
        if (errors.length > 0) await record(args, errors)
      },
    }),
  }
}

async function record(args: ExecutionArgs, errors: readonly GraphQLError[]): Promise<void> {
  const { audit, actor, begun } = args.contextValue as Context
  for (const { responseName, mutation, input } of sentInputs(args)) {
    // One without a path is of the whole request.
    const error = errors.find(({ path }) => !path || path[0] === responseName)
    if (!error || begun.has(responseName)) continue
    const refused = Object.assign(new Error(error.message), { extensions: { code: error.extensions?.['code'] ?? 'INVALID_REQUEST' } })
    const subject = typeof input === 'object' && input !== null ? subjectIn(input) : undefined
    await audit
      .attempt({ actor, mutation, input, subject }, () => Promise.reject(refused))
      .catch((thrown: unknown) => {
        if (thrown !== refused) throw thrown
      })
  }
}
