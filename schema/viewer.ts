import { eq } from 'drizzle-orm'
import { apiTokens } from '../src/database/tables/api-token.ts'
import type { Actor } from '../src/workflows/operations.ts'
import { builder } from './builder.ts'
import { describedEnum } from './described-enum.ts'

const Role = describedEnum<Actor['role']>('Role', 'What the bearer of a token may do. Each may do what those before it may.', {
  VIEWER: 'May read everything that the API shows.',
  OPERATOR: 'May migrate and refresh.',
  ADMIN: 'May connect and disconnect clouds.',
})

const Viewer = builder.objectRef<Actor>('Viewer').implement({
  description: 'Who asks: the token of this request.',
  fields: (t) => ({
    role: t.expose('role', { type: Role, description: 'What it may do.' }),
    tokenName: t.string({
      nullable: true,
      description: 'Its name; null where the token was deleted since the request began.',
      resolve: async ({ tokenId }, _, { db }) => {
        const [row] = await db.select({ name: apiTokens.name }).from(apiTokens).where(eq(apiTokens.id, tokenId))
        return row?.name ?? null
      },
    }),
  }),
})

builder.queryField('viewer', (t) => t.field({ type: Viewer, description: 'Who asks.', resolve: (_, __, { actor }) => actor }))
