/** What the control plane reads of whoever receives its webhooks: anything may answer, in HTTP or not. */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { openDatabase, type Database } from '../../src/database/client.ts'
import { keptOutputBytes } from '../../src/domain/hook.ts'
import { sealKeyOf } from '../../src/secrets/seal.ts'
import { createIdempotency } from '../../src/workflows/idempotency.ts'
import { webhookAddresses } from '../../src/workflows/webhook-addresses.ts'
import { createWebhookSecretOperations } from '../../src/workflows/webhook-secret-operations.ts'
import { createWebhooks, type Webhooks } from '../../src/workflows/webhooks.ts'
import { operator } from '../workflows/support/migration-settings-for-tests.ts'
import { bytesLike, fuzz } from './support/fuzz.ts'

let directory: string
let database: Database
let webhooks: Webhooks
let server: Server
let url: string
/** What the receiver answers once it has been told anything, and what it does then. */
let says: Buffer
let then: (socket: Socket) => void
const open = new Set<Socket>()

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'portolan-fuzz-'))
  database = await openDatabase({ dataDirectory: directory })
  const sealKey = sealKeyOf(Buffer.alloc(32, 7))
  webhooks = createWebhooks({ database, sealKey, addresses: webhookAddresses(['127.0.0.0/8']) })
  const secrets = createWebhookSecretOperations({ idempotency: createIdempotency(database, sealKey), sealKey })
  await secrets.setWebhookSecret(operator, { idempotencyKey: 'k', name: 'team', secret: 'a secret that nobody guesses' })
  server = createServer((socket) => {
    open.add(socket.on('error', () => {}).on('close', () => open.delete(socket)))
    socket.once('data', () => socket.resume().write(says, () => then(socket)))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks`
})
afterAll(async () => {
  for (const socket of open) socket.destroy()
  await new Promise((closed) => server.close(closed))
  await database.close()
  await rm(directory, { recursive: true })
})

/** How a delivery ended: with what is to be said, either way. A receiver that doesn't hang up is given up by the signal. */
async function delivered(answer: Buffer, hangsUp = true): Promise<{ accepted: boolean; said: string }> {
  const givenUp = new AbortController()
  says = answer
  then = (socket) => (hangsUp ? socket.end() : givenUp.abort())
  try {
    return { accepted: true, said: await webhooks.deliver({ url, secretName: 'team' }, 'd', {}, givenUp.signal) }
  } catch (error) {
    expect(error).toBeInstanceOf(Error)
    return { accepted: false, said: (error as Error).message }
  }
}

describe("a webhook's answer", () => {
  const status = fc.oneof(fc.integer({ min: 100, max: 599 }), fc.constantFrom(100, 101, 102, 103, 200, 204, 299, 300, 302, 304, 500))
  const body = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.constantFrom('x'.repeat(keptOutputBytes - 1), 'é'.repeat(keptOutputBytes)),
  )
  const answer = fc
    .record({
      status,
      body,
      framing: fc.constantFrom('length', 'more', 'chunks', 'end'),
      headers: fc.constantFrom(
        '',
        'Upgrade: x\r\nConnection: Upgrade\r\n',
        'Location: /\r\n',
        'Trailer: a\r\n',
        'Content-Encoding: gzip\r\n',
      ),
      before: fc.constantFrom('', 'HTTP/1.1 100 Continue\r\n\r\n', 'HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n'),
    })
    .map((given) => {
      const bytes = Buffer.byteLength(given.body)
      const framed = {
        length: `Content-Length: ${bytes}\r\n`,
        more: `Content-Length: ${bytes + 1}\r\n`,
        chunks: 'Transfer-Encoding: chunked\r\n',
        end: '',
      }[given.framing]
      const content = given.framing === 'chunks' ? `${bytes.toString(16)}\r\n${given.body}\r\n0\r\n\r\n` : given.body
      return Buffer.from(`${given.before}HTTP/1.1 ${given.status} S\r\n${given.headers}${framed}\r\n${content}`)
    })

  fuzz(
    'is taken, or refused in a sentence of bounded length, whatever comes',
    fc.tuple(bytesLike(answer), fc.boolean()),
    async ([bytes, hangsUp]) => {
      const { accepted, said } = await delivered(bytes, hangsUp)
      expect(said).toMatch(accepted ? /^answered 2\d\d$/ : /\S/)
      expect(said.length).toBeLessThanOrEqual(keptOutputBytes + 200)
    },
    150,
  )

  fuzz(
    'is taken only for its status, and a refusal quotes no more than the beginning',
    // Those two have no body: what follows is a broken second answer.
    fc.tuple(
      fc.integer({ min: 200, max: 599 }).filter((code) => code !== 204 && code !== 304),
      body,
    ),
    async ([code, text]) => {
      const bytes = Buffer.from(text)
      const { accepted, said } = await delivered(
        Buffer.concat([Buffer.from(`HTTP/1.1 ${code} S\r\nContent-Length: ${bytes.length}\r\n\r\n`), bytes]),
      )
      expect(accepted).toBe(code < 300)
      const redirect = code < 400 ? ', and redirects are not followed' : ''
      const quoted = bytes.subarray(0, keptOutputBytes).toString('utf8').trim()
      expect(said).toBe(accepted ? `answered ${code}` : `It answered ${code}${redirect}${quoted === '' ? '' : `: ${quoted}`}.`)
    },
    60,
  )
})
