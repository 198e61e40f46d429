/** Sends signed webhooks, and keeps the secrets that they are signed with: sealed, by name, readable by nobody. */
import { createHmac } from 'node:crypto'
import * as http from 'node:http'
import * as https from 'node:https'
import { eq } from 'drizzle-orm'
import type { Database } from '../database/client.ts'
import { webhookSecrets } from '../database/tables/webhook-secret.ts'
import { PortolanError } from '../domain/errors.ts'
import { keptOutputBytes } from '../domain/hook.ts'
import type { SealKey } from '../secrets/seal.ts'
import type { WebhookAddresses } from './webhook-addresses.ts'

export interface Webhooks {
  /**
   * One POST. `id` is the same for every delivery of one hook, so that its receiver can tell a repetition. Resolves with what was answered, once that was a status from 200
   * to 299; rejects with one sentence otherwise. A redirect is not followed: it is a failure.
   */
  deliver(webhook: { url: string; secretName: string }, id: string, body: Record<string, unknown>, signal: AbortSignal): Promise<string>
}

export function sealContext(name: string): string {
  return `webhook-secret/${name}`
}

export function createWebhooks(dependencies: { database: Database; sealKey: SealKey; addresses: WebhookAddresses }): Webhooks {
  const { database, sealKey, addresses } = dependencies

  async function secretNamed(name: string): Promise<string> {
    const [row] = await database.select().from(webhookSecrets).where(eq(webhookSecrets.name, name))
    if (row) return sealKey.unseal(row.sealed, sealContext(name))
    throw new PortolanError('NOT_FOUND', `There is no webhook secret ${JSON.stringify(name)}, so nothing was sent.`, {
      retryable: false,
      remedy: 'Set it with setWebhookSecret.',
    })
  }

  return {
    async deliver({ url, secretName }, id, content, signal) {
      const target = new URL(url)
      addresses.requireAllowed(target)
      const body = JSON.stringify({ id, ...content })
      const seconds = Math.floor(Date.now() / 1000)
      const signature = createHmac('sha256', await secretNamed(secretName))
        .update(`${seconds}.${body}`)
        .digest('hex')
      const { status, text } = await post(target, body, addresses, signal, {
        'content-type': 'application/json',
        'user-agent': 'Portolan',
        'portolan-delivery': id,
        'portolan-signature': `t=${seconds},v1=${signature}`,
      })
      if (status >= 200 && status <= 299) return `answered ${status}`
      const redirect = status >= 300 && status <= 399 ? ', and redirects are not followed' : ''
      throw new Error(`It answered ${status}${redirect}${text === '' ? '' : `: ${text}`}.`)
    },
  }
}

function post(
  url: URL,
  body: string,
  { lookup }: WebhookAddresses,
  signal: AbortSignal,
  headers: Record<string, string>,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const { request } = url.protocol === 'https:' ? https : http
    // No agent: a connection that was kept would skip the lookup.
    const sent = request(url, {
      method: 'POST',
      headers: { ...headers, 'content-length': Buffer.byteLength(body) },
      lookup,
      agent: false,
      signal,
    })
    sent.once('error', reject)
    // Without a listener Node closes the connection of such an answer (101), and neither an error nor an answer comes, nor does the signal end it.
    sent.once('upgrade', ({ statusCode = 101 }, socket) => {
      socket.destroy()
      resolve({ status: statusCode, text: '' })
    })
    sent.once('response', (response) => {
      let kept = Buffer.alloc(0)
      const answer = () => resolve({ status: response.statusCode ?? 0, text: kept.toString('utf8').trim() })
      response.on('data', (chunk: Buffer) => {
        kept = Buffer.concat([kept, chunk]).subarray(0, keptOutputBytes)
        // The rest is of no interest, however long it is.
        if (kept.length < keptOutputBytes) return
        answer()
        response.destroy()
      })
      response.once('end', answer)
      response.once('error', reject)
    })
    sent.end(body)
  })
}
