import SchemaBuilder from '@pothos/core'
import complexity from '@pothos/plugin-complexity'
import dataloader from '@pothos/plugin-dataloader'
import errors from '@pothos/plugin-errors'
import relay from '@pothos/plugin-relay'
import scopeAuth from '@pothos/plugin-scope-auth'
import { GraphQLError, isObjectType, type GraphQLSchema } from 'graphql'
import type { ByteCount } from './scalars.ts'
import type { Context } from './context.ts'
import { fieldRules } from './field-rules.ts'
import { limits } from './limits.ts'

export interface SchemaTypes {
  Context: Context
  Scalars: {
    ID: { Input: string; Output: string }
    DateTime: { Input: Date; Output: Date }
    ByteCount: { Input: ByteCount; Output: ByteCount }
    IPAddress: { Input: string; Output: string }
    CIDR: { Input: string; Output: string }
    JSON: { Input: unknown; Output: unknown }
  }
  AuthScopes: { viewer: boolean; operator: boolean; admin: boolean }
  DefaultFieldNullability: false
  DefaultNodeNullability: false
  DefaultEdgesNullability: { list: false; items: false }
}

/** Defines no types: each noun's file does. The roles include each other: an admin may do what an operator may. */
export const builder = new SchemaBuilder<SchemaTypes>({
  plugins: [errors, fieldRules, scopeAuth, complexity, relay, dataloader],
  defaultFieldNullability: false,
  errors: { directResult: true },
  scopeAuth: {
    authorizeOnSubscribe: true,
    unauthorizedError: (_, { actor }, { parentType, fieldName }) =>
      new GraphQLError(`A token with the role ${actor.role} may not use ${parentType.name}.${fieldName}; its description says who may.`, {
        extensions: { code: 'FORBIDDEN' },
      }),
    authScopes: ({ actor }) => ({
      viewer: true,
      operator: actor.role !== 'VIEWER',
      admin: actor.role === 'ADMIN',
    }),
  },
  complexity: { defaultComplexity: 1, defaultListMultiplier: limits.assumedListLength },
  relay: {
    cursorType: 'String',
    nodeTypeOptions: { description: 'Anything with an id of its own, to be read again by `node(id)`.' },
    idFieldOptions: { description: 'Opaque and stable; unique over all types.' },
    nodeQueryOptions: {
      description: 'The object with this id, or null where there is none.',
      authScopes: { viewer: true },
      args: { id: { description: 'An `id` that this API gave out.' } },
      resolve: (_root, { id }, _context, { schema }, read) => (isNode(schema, id) ? read(id) : null),
    },
    nodesQueryOptions: {
      description: 'The objects with these ids, in their order; null where there is none.',
      authScopes: { viewer: true },
      args: { ids: { description: 'Ids that this API gave out.' } },
      complexity: ({ ids }) => ({ field: 1, multiplier: ids.length }),
      async resolve(_root, args, _context, { schema }, read) {
        const asked = args.ids
        // The plugin reads these, whatever it is called with.
        args.ids = asked.filter((id) => isNode(schema, id))
        const found = (await read(args.ids)).values()
        return asked.map((id) => (isNode(schema, id) ? found.next().value : null))
      },
    },
    pageInfoFieldOptions: { description: 'Where this page begins and ends.' },
    pageInfoTypeOptions: { description: 'Where a page of a connection begins and ends.' },
    hasNextPageFieldOptions: { description: 'Whether there is more after `endCursor`.' },
    hasPreviousPageFieldOptions: { description: 'Whether there is more before `startCursor`.' },
    startCursorFieldOptions: { description: 'Cursor of the first edge; give it as `before` for the page before.' },
    endCursorFieldOptions: { description: 'Cursor of the last edge; give it as `after` for the next page.' },
    cursorFieldOptions: { description: 'Position of this edge in its connection.' },
    nodeFieldOptions: { description: 'The object at this edge.' },
    edgesFieldOptions: { description: 'This page, in order.', complexity: { field: 0, multiplier: 1 } },
    nodesFieldOptions: { description: 'This page, in order, without cursors.', complexity: { field: 0, multiplier: 1 } },
    nodesOnConnection: { description: 'This page, in order, without cursors.', complexity: { field: 0, multiplier: 1 } },
    firstArgOptions: {
      description: `Length of the page from its start: 0 to ${limits.pageSize}. Without \`first\` and \`last\`: ${limits.defaultPageSize}.`,
    },
    lastArgOptions: { description: `Length of the page from its end: 0 to ${limits.pageSize}.` },
    afterArgOptions: { description: 'Begin after this cursor.' },
    beforeArgOptions: { description: 'End before this cursor.' },
  },
})

/** Of what is no type, or none that can be read by an id, nothing has that id. */
function isNode(schema: GraphQLSchema, { typename }: { typename: string }): boolean {
  const type = schema.getType(typename)
  return isObjectType(type) && type.getInterfaces().some(({ name }) => name === 'Node')
}

/** SchemaTypes with Pothos's defaults filled in, as refs and field builders carry them. */
export type ResolvedTypes = typeof builder.$inferSchemaTypes

builder.queryType({
  description: 'What is known: read from the database, never from a cloud while you wait, but for `migrationVerdicts`.',
})
builder.mutationType({
  description:
    'What can be done. Each takes one `input` with an idempotency key and answers at once; long work is watched by a subscription.',
})
builder.subscriptionType({
  description:
    'What changes. The first event is the present state, and each event carries the whole object, so that nothing has to be merged.',
})
