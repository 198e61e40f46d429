import { eq } from 'drizzle-orm'
import { apiTokens } from '../src/database/tables/api-token.ts'
import type { Actor } from '../src/workflows/operations.ts'
import { builder } from './builder.ts'
import { Role } from './role.ts'

const Viewer = builder.objectRef<Actor>('Viewer').implement({
  description: 'Who asks: the token of this request.',
  fields: (t) => ({
    role: t.expose('role', { type: Role, description: 'What it may do.' }),
    tokenName: t.string({
      nullable: true,
      description: 'Its name; null where the token is no longer known.',
      resolve: async ({ tokenId }, _, { db }) => {
        const [row] = await db.select({ name: apiTokens.name }).from(apiTokens).where(eq(apiTokens.id, tokenId))
        return row?.name ?? null
      },
    }),
  }),
})

builder.queryField('viewer', (t) =>
  t.field({ type: Viewer, description: 'Who asks.', authScopes: { viewer: true }, resolve: (_, __, { actor }) => actor }),
)
