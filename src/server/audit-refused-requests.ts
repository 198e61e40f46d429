import type { ExecutionArgs, GraphQLError } from 'graphql'
import { isAsyncIterable, type Plugin } from 'graphql-yoga'
import type { Context } from '../../schema/context.ts'
import { subjectIn } from '../../schema/subject-in.ts'
import { sentInputs } from './sent-inputs.ts'

/**
 * Mutations that are refused as a whole, because their variables do not fit or because they ask for too much, never reach their fields, where the others are put into the audit
 * trail; this does it for them. A document that is no valid GraphQL asks for nothing, and is not kept.
 */
export function auditRefusedRequests(): Plugin<Context> {
  return {
    onExecute: ({ args }) => ({
      onExecuteDone: async ({ result }) => {
        const [error] = isAsyncIterable(result) || result.data ? [] : (result.errors ?? [])
        // An error with a path comes from a field, which has recorded it.
        if (error && !error.path) await record(args, error)
      },
    }),
  }
}

async function record(args: ExecutionArgs, error: GraphQLError): Promise<void> {
  const { audit, actor } = args.contextValue as Context
  for (const { mutation, input } of sentInputs(args)) {
    const refused = Object.assign(new Error(error.message), { extensions: { code: error.extensions?.['code'] ?? 'INVALID_REQUEST' } })
    const subject = typeof input === 'object' && input !== null ? subjectIn(input) : undefined
    await audit
      .attempt({ actor, mutation, input, subject }, () => Promise.reject(refused))
      .catch((thrown: unknown) => {
        if (thrown !== refused) throw thrown
      })
  }
}
