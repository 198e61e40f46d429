import { ApiToken } from './api-tokens.ts'
import { builder } from './builder.ts'
import { acting, payload } from './errors.ts'
import { rowIdOf } from './global-id.ts'
import { checkedKey, idempotencyKey } from './idempotency-key.ts'
import { Role } from './role.ts'

const CreateApiTokenSuccess = builder.objectRef<{ apiTokenId: string; token: string | null }>('CreateApiTokenSuccess').implement({
  description: 'The token was made and may be used.',
  fields: (t) => ({
    apiToken: t.field({ type: ApiToken, description: 'What is known of it.', resolve: ({ apiTokenId }) => apiTokenId }),
    token: t.exposeString('token', {
      nullable: true,
      description:
        'The token, for `Authorization: Bearer …`. Shown this once, since only its hash is stored: null when the idempotency key was used before; revoke the token then, and make another.',
    }),
  }),
})

const CreateApiTokenInput = builder.inputType('CreateApiTokenInput', {
  description: 'Which token.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    name: t.string({ required: true, description: 'Whose it is, or what for: 1 to 100 visible characters.' }),
    role: t.field({ type: Role, required: true, description: 'What its bearer may do.' }),
  }),
})

builder.mutationField('createApiToken', (t) =>
  t.field({
    type: CreateApiTokenSuccess,
    errors: payload('createApiToken'),
    authScopes: { admin: true },
    description: 'Makes a bearer token for this API, and shows it once. For admins.',
    args: { input: t.arg({ type: CreateApiTokenInput, required: true, description: 'Which token.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () => operations.createApiToken(actor, { idempotencyKey: checkedKey(input), name: input.name, role: input.role })),
  }),
)

const RevokeApiTokenSuccess = builder.objectRef<{ apiTokenId: string }>('RevokeApiTokenSuccess').implement({
  description: 'The token is of no use any more, and subscriptions that it opened end within a second.',
  fields: (t) => ({
    apiToken: t.field({ type: ApiToken, description: 'What is known of it.', resolve: ({ apiTokenId }) => apiTokenId }),
  }),
})

const RevokeApiTokenInput = builder.inputType('RevokeApiTokenInput', {
  description: 'Which token.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    apiTokenId: t.id({ required: true, description: "The token's `id`." }),
  }),
})

builder.mutationField('revokeApiToken', (t) =>
  t.field({
    type: RevokeApiTokenSuccess,
    errors: payload('revokeApiToken'),
    authScopes: { admin: true },
    description: "Ends a token for good, also where a subscription runs under it. The last admin's token is not revoked. For admins.",
    args: { input: t.arg({ type: RevokeApiTokenInput, required: true, description: 'Which token.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () =>
        operations.revokeApiToken(actor, {
          idempotencyKey: checkedKey(input),
          apiTokenId: rowIdOf('ApiToken', input.apiTokenId, ['input', 'apiTokenId']),
        }),
      ),
  }),
)
