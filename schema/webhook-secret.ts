import { builder } from './builder.ts'
import { acting, payload } from './errors.ts'
import { checkedKey, idempotencyKey } from './idempotency-key.ts'

function secretSuccess(name: string, description: string) {
  return builder.objectRef<{ name: string }>(name).implement({
    description,
    fields: (t) => ({ name: t.exposeString('name', { description: 'Its name.' }) }),
  })
}

const SetWebhookSecretInput = builder.inputType('SetWebhookSecretInput', {
  description: 'Which secret.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    name: t.string({ required: true, description: 'What hooks call it: 1 to 63 lower-case letters, digits and hyphens.' }),
    secret: t.string({
      required: true,
      description: 'The key of the HMAC, 16 to 1,024 characters. Sealed at rest, and never shown again.',
    }),
  }),
})

builder.mutationField('setWebhookSecret', (t) =>
  t.field({
    type: secretSuccess('SetWebhookSecretSuccess', 'The secret is kept, and used from now on.'),
    errors: payload('setWebhookSecret'),
    authScopes: { operator: true },
    description: 'Keeps what webhooks are signed with, or replaces it. For operators.',
    args: { input: t.arg({ type: SetWebhookSecretInput, required: true, description: 'Which secret.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () => operations.setWebhookSecret(actor, { ...input, idempotencyKey: checkedKey(input) })),
  }),
)

const DeleteWebhookSecretInput = builder.inputType('DeleteWebhookSecretInput', {
  description: 'Which secret.',
  fields: (t) => ({
    idempotencyKey: idempotencyKey(t),
    name: t.string({ required: true, description: 'Its name. One that does not exist is deleted already.' }),
  }),
})

builder.mutationField('deleteWebhookSecret', (t) =>
  t.field({
    type: secretSuccess('DeleteWebhookSecretSuccess', 'The secret is gone; hooks that name it fail from now on.'),
    errors: payload('deleteWebhookSecret'),
    authScopes: { operator: true },
    description: 'Forgets what webhooks were signed with. For operators.',
    args: { input: t.arg({ type: DeleteWebhookSecretInput, required: true, description: 'Which secret.' }) },
    resolve: (_, { input }, { operations, actor }) =>
      acting(async () => operations.deleteWebhookSecret(actor, { ...input, idempotencyKey: checkedKey(input) })),
  }),
)
