import { eq } from 'drizzle-orm'
import { webhookSecrets } from '../database/tables/webhook-secret.ts'
import { PortolanError } from '../domain/errors.ts'
import type { SealKey } from '../secrets/seal.ts'
import { translated } from './failure.ts'
import type { Idempotency } from './idempotency.ts'
import type { Operations } from './operations.ts'
import { sealContext } from './webhooks.ts'

export type WebhookSecretOperations = Pick<Operations, 'setWebhookSecret' | 'deleteWebhookSecret'>

/** A shorter one could be guessed from a few signed bodies. */
const leastCharacters = 16

export function createWebhookSecretOperations({
  idempotency,
  sealKey,
}: {
  idempotency: Idempotency
  sealKey: SealKey
}): WebhookSecretOperations {
  return {
    setWebhookSecret: (actor, input) =>
      translated(() =>
        idempotency.once(actor, 'setWebhookSecret', input, async (commit) => {
          const { name, secret } = input
          if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(name))
            throw refused('The name of a webhook secret is 1 to 63 lower-case letters, digits and hyphens.', 'name')
          if (secret.length < leastCharacters || secret.length > 1_024)
            throw refused(`A webhook secret has ${leastCharacters} to 1,024 characters.`, 'secret')
          const values = { name, sealed: sealKey.seal(secret, sealContext(name)), setAt: new Date() }
          return commit(async (tx) => {
            await tx.insert(webhookSecrets).values(values).onConflictDoUpdate({ target: webhookSecrets.name, set: values })
            return { name }
          }, [])
        }),
      ),
    deleteWebhookSecret: (actor, input) =>
      translated(() =>
        idempotency.once(actor, 'deleteWebhookSecret', input, (commit) =>
          commit(async (tx) => {
            await tx.delete(webhookSecrets).where(eq(webhookSecrets.name, input.name))
            return { name: input.name }
          }, []),
        ),
      ),
  }
}

function refused(rule: string, field: string): PortolanError {
  return new PortolanError('INVALID_INPUT', `${rule} Nothing was changed.`, {
    retryable: false,
    remedy: 'Correct it and send the call again.',
    path: ['input', field],
  })
}
