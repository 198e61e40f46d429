import { apiTokens } from '../src/database/tables/api-token.ts'
import { builder } from './builder.ts'
import { Role } from './role.ts'
import { rowNode } from './row-node.ts'

/** A row without the hash of its token. */
export const ApiToken = rowNode('ApiToken', apiTokens)
ApiToken.implement({
  description: 'A bearer token of this API. The token itself was shown once, when it was made, and is stored nowhere. For admins.',
  authScopes: { admin: true },
  fields: (t) => ({
    name: t.exposeString('name', { description: 'Whose it is, or what for.' }),
    role: t.expose('role', { type: Role, description: 'What its bearer may do.' }),
    createdAt: t.expose('createdAt', { type: 'DateTime', description: 'When it was made.' }),
    revokedAt: t.expose('revokedAt', {
      type: 'DateTime',
      nullable: true,
      description: 'When it was revoked; null while it may be used.',
    }),
  }),
})

builder.queryField('apiTokens', (t) =>
  t.field({
    type: [ApiToken],
    authScopes: { admin: true },
    description: 'All tokens, revoked ones included, the oldest first. For admins.',
    resolve: (_, __, { db }) => db.select().from(apiTokens).orderBy(apiTokens.createdAt, apiTokens.id),
  }),
)
