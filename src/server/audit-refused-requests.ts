import { getOperationAST, isObjectType, Kind, type DocumentNode, type ExecutionArgs, type GraphQLError } from 'graphql'
import { isAsyncIterable, type Plugin } from 'graphql-yoga'
import type { Context } from '../../schema/context.ts'

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

async function record(
  { document, operationName, variableValues, contextValue, schema }: ExecutionArgs,
  error: GraphQLError,
): Promise<void> {
  const { audit, actor } = contextValue as Context
  const known = schema.getMutationType()
  for (const mutation of mutationsIn(document, operationName)) {
    if (!isObjectType(known) || !known.getFields()[mutation]) continue
    const refused = Object.assign(new Error(error.message), { extensions: { code: error.extensions?.['code'] ?? 'INVALID_REQUEST' } })
    await audit
      .attempt(
        { actor, mutation, input: (variableValues as Record<string, unknown> | undefined)?.['input'] ?? variableValues ?? null },
        () => Promise.reject(refused),
      )
      .catch((thrown: unknown) => {
        if (thrown !== refused) throw thrown
      })
  }
}

/** Names of the root fields, those in fragments left out: they fail with the rest. */
function mutationsIn(document: DocumentNode, operationName: string | null | undefined): string[] {
  const operation = getOperationAST(document, operationName)
  if (operation?.operation !== 'mutation') return []
  return operation.selectionSet.selections.flatMap((selection) => (selection.kind === Kind.FIELD ? [selection.name.value] : []))
}
