import { EnvelopArmorPlugin } from '@escape.tech/graphql-armor'
import { complexityFromQuery } from '@pothos/plugin-complexity'
import { getOperationAST, GraphQLError, Kind, type DocumentNode, type ExecutionArgs } from 'graphql'
import type { Plugin } from 'graphql-yoga'
import { limits } from '../../schema/limits.ts'

/** Plugins that refuse an operation which asks for too much, each with a sentence that names the limit. They hold for HTTP and WebSockets alike. */
export function operationLimits(): Plugin[] {
  return [
    EnvelopArmorPlugin({
      maxTokens: { n: limits.tokens, onReject: [refuse('QUERY_TOO_LONG', `The document has more than ${limits.tokens} tokens.`)] },
      maxDepth: {
        n: limits.depth,
        flattenFragments: true,
        onReject: [refuse('QUERY_TOO_DEEP', `The document nests more than ${limits.depth} levels.`)],
      },
      maxAliases: { n: limits.aliases, onReject: [refuse('TOO_MANY_ALIASES', `The document has more than ${limits.aliases} aliases.`)] },
      maxDirectives: {
        n: limits.directives,
        onReject: [refuse('TOO_MANY_DIRECTIVES', `The document has more than ${limits.directives} directives.`)],
      },
      // Ours below knows the length of pages; suggestions need a token, and whoever has one may read the schema.
      costLimit: { enabled: false },
      blockFieldSuggestion: { enabled: false },
    }) as Plugin,
    {
      onExecute: ({ args, setResultAndStopExecution }) => {
        const error = tooExpensive(args)
        if (error) setResultAndStopExecution({ errors: [error] })
      },
      onSubscribe: ({ args, setResultAndStopExecution }) => {
        const error = tooExpensive(args)
        if (error) setResultAndStopExecution({ errors: [error] })
      },
    },
  ]
}

function refuse(code: string, sentence: string) {
  return () => {
    throw new GraphQLError(`${sentence} Nothing was run; ask for less, or in several requests.`, { extensions: { code } })
  }
}

function tooExpensive(args: ExecutionArgs): GraphQLError | undefined {
  const cost = costOf(args)
  if (cost === undefined || cost <= limits.cost) return undefined
  return new GraphQLError(
    `The operation may give ${cost} fields, and ${limits.cost} are allowed. Nothing was run; ask for fewer fields or shorter pages.`,
    { extensions: { code: 'QUERY_TOO_EXPENSIVE', cost, limit: limits.cost } },
  )
}

/** Undefined for a document that can't be run as it is: execution says why. */
function costOf({ schema, document, operationName, variableValues, contextValue }: ExecutionArgs): number | undefined {
  const operation = getOperationAST(document, operationName)
  if (!operation) return undefined
  // The library looks at the first operation of a document; here it is the one that runs.
  const fragments = document.definitions.filter((definition) => definition.kind === Kind.FRAGMENT_DEFINITION)
  const alone: DocumentNode = { kind: Kind.DOCUMENT, definitions: [operation, ...fragments] }
  try {
    return complexityFromQuery(alone, { schema, variables: { ...variableValues }, ctx: contextValue as object }).complexity
  } catch (error) {
    if (error instanceof GraphQLError) return undefined
    throw error
  }
}
